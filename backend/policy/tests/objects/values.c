// A value of every kind of type that is printed.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum colour { RED = 3, GREEN = 70000, DARK = -2 };
typedef unsigned char octet;

struct value {
	_Bool truth;
	char letter;
	signed char small;
	unsigned short port;
	int number;
	unsigned long long large;
	char name[8];
	char octets[4];
	octet address[4];
	enum colour colours[3];
	unsigned int narrow : 3;
	int wide : 20;
	struct {
		int x, y;
	} points[2];
	union {
		int whole;
		short half;
	};
	void *pointer;
	void *null;
	__int128 huge;
	struct {
	} nothing;
	int none[0];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct value);
} values SEC(".maps");

struct value sample = {
	.truth = 1,
	.letter = 'x',
	.small = -5,
	.port = 65535,
	.number = -100000,
	.large = 0xffffffffffffffffULL,
	.name = "e\"t\\0",
	.octets = { 1, 2, 3, 4 },
	.address = { 10, 0, 0, 1 },
	.colours = { GREEN, DARK, 5 },
	.narrow = 5,
	.wide = -2,
	.points = { { 1, 2 }, { 3, -4 } },
	.whole = 0x10002,
	.pointer = (void *)0x1234,
	.huge = ((__int128)1 << 64) + 2,
};

SEC("tc")
int program(struct __sk_buff *skb)
{
	int key = 0;

	return bpf_map_lookup_elem(&values, &key) ? sample.number : 0;
}

char _license[] SEC("license") = "GPL";
