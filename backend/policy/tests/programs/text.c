// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Text: made, compared and read. */
#include "program.h"

char made[128];
__s64 found[16];

PROGRAM(text)
{
	static const char format[] = "%d %u %x %lx %s %c%% %08x %-5d|%5d|";
	__u64 values[] = { -5, skb->len, 0xbeef, 0x123456789abcdef, (__u64)(long)"word", 'c', 0x1234, 7, -7 };
	char a[] = "same thing", b[] = "same think";

	found[0] = bpf_snprintf(made, sizeof(made), format, values, sizeof(values));
	found[1] = bpf_snprintf(made + 100, 8, format, values, sizeof(values));
	found[2] = bpf_strncmp(a, sizeof(a), "same thing");
	found[3] = bpf_strncmp(b, sizeof(b), "same thing") > 0;
	return found[0];
}
