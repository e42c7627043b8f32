// Instructions that depend on types: CO-RE relocations of every kind that this compiler makes.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

enum colour { RED = 3, GREEN = 70000 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct point {
	int x;
	short y[4];
};

struct shape {
	char name[16];
	union {
		struct point centre;
		long whole;
	};
	unsigned int narrow : 3;
	signed int wide : 20;
	unsigned char flag;
	struct point corners[3];
	enum colour colour;
};
#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct shape);
} shapes SEC(".maps");

int result[16];

SEC("tc")
int fields(struct __sk_buff *skb)
{
	int key = 0;
	struct shape *shape = bpf_map_lookup_elem(&shapes, &key);

	if (!shape)
		return 0;
	result[0] = shape->corners[2].y[3];
	result[1] = shape->centre.x;
	shape->flag = 1;
	return result[0];
}

SEC("tc")
int facts(struct __sk_buff *skb)
{
	int key = 0;
	struct shape *shape = bpf_map_lookup_elem(&shapes, &key);

	if (!shape)
		return 0;
	result[0] = bpf_core_field_exists(shape->flag);
	result[1] = bpf_core_field_size(shape->name);
	result[2] = __builtin_preserve_field_info(shape->wide, BPF_FIELD_SIGNED);
	result[3] = BPF_CORE_READ_BITFIELD(shape, wide);
	result[4] = BPF_CORE_READ_BITFIELD(shape, narrow);
	result[5] = bpf_core_type_exists(struct shape);
	result[6] = bpf_core_type_size(struct shape);
	result[7] = bpf_core_enum_value_exists(enum colour, GREEN);
	result[8] = bpf_core_enum_value(enum colour, GREEN);
	result[9] = bpf_core_type_id_local(struct shape);
	result[10] = __builtin_preserve_field_info(shape->corners[1].y, BPF_FIELD_BYTE_OFFSET);
	return 0;
}
