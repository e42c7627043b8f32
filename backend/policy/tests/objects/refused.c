// What is refused, one case at a time: -DCASE=<number>.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
#if CASE == 1
	__uint(colour, 3);
#elif CASE == 2
	__uint(value_size, 4);
#elif CASE == 3
	__uint(pinning, 7);
#elif CASE == 4
	__array(values, int (struct __sk_buff *));
#elif CASE == 5
	int map_flags;
#endif
} map SEC(".maps");

#if CASE == 6
struct {
	__uint(max_entries, 1);
} untyped SEC(".maps");
#elif CASE == 7
extern int CONFIG_UNHEARD_OF __kconfig;
#elif CASE == 8
extern _Bool LINUX_KERNEL_VERSION __kconfig;
#endif

int number;
int *address = &number;

SEC("tc")
int program(struct __sk_buff *skb)
{
	__u32 key = 0;

#if CASE == 7
	key = CONFIG_UNHEARD_OF;
#elif CASE == 8
	key = LINUX_KERNEL_VERSION;
#endif
	if (address == (int *)skb->mark)
		address = 0;
	return bpf_map_lookup_elem(&map, &key) != 0;
}
