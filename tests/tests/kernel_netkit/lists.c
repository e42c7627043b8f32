// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that tell in which order they ran: word 0 of the notes gets their digits. */
#include "programs.h"

#define PROGRAM(number)                         \
	SEC("netkit/primary")                   \
	int tc##number(struct __sk_buff *skb)   \
	{                                       \
		append(0, number);              \
		return verdict(number);         \
	}

PROGRAM(1)
PROGRAM(2)
PROGRAM(3)
PROGRAM(4)
PROGRAM(5)
