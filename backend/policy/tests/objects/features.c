// What libbpf-style objects are made of: programs, functions, maps, data and externs.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct counters {
	__u64 packets;
	__u64 octets;
};

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__uint(map_flags, 0);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { [1] = &inner_a, [3] = &inner_b },
};

int second(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int (struct __sk_buff *));
} calls SEC(".maps") = {
	.values = { [1] = (void *)&second },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 100);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(numa_node, 0);
	__type(key, __u32);
	__type(value, struct counters);
} pinned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__uint(map_extra, 5);
	__type(value, __u32);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

int limit = 7;
int own SEC(".data.own") = 9;
static __u64 seen;
const volatile __u32 mark = 0x1234;
const volatile char name[8] = "eth0";

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_NETKIT __kconfig;
extern enum libbpf_tristate CONFIG_NET_SCHED __kconfig;
extern char CONFIG_BPF __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig;
extern __u64 CONFIG_UNHEARD_OF __kconfig __weak;
extern void missing_function(void) __ksym __weak;
extern const int missing_variable __ksym __weak;

static __attribute__((noinline)) int leaf(int number)
{
	seen += number;
	return number * 3;
}

__attribute__((noinline)) int branch(int number)
{
	return leaf(number) + limit;
}

static long each(void *map, __u32 *key, void *value, void *context)
{
	return *key == 3;
}

SEC("tc")
int first(struct __sk_buff *skb)
{
	struct counters *found;
	__u32 key = skb->mark & 7;

	bpf_for_each_map_elem(&outer, each, 0, 0);
	bpf_map_peek_elem(&bloom, &key);
	found = bpf_map_lookup_elem(&pinned, &key);
	if (found)
		found->packets++;
	if (&missing_variable)
		return missing_variable;
	if (missing_function)
		missing_function();
	bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &key, sizeof(key));
	bpf_ringbuf_output(&ring, &key, sizeof(key), 0);
	bpf_tail_call(skb, &calls, 1);
	return branch(skb->len) + leaf(2) + name[key] + mark + own;
}

SEC("tc")
int second(struct __sk_buff *skb)
{
	if (!CONFIG_NETKIT || CONFIG_NET_SCHED != TRI_YES || CONFIG_BPF != 'y')
		return 1;
	return leaf(LINUX_KERNEL_VERSION) + CONFIG_DEFAULT_HOSTNAME[skb->len & 15] + (int)CONFIG_UNHEARD_OF;
}

SEC("?netkit/primary")
int third(struct __sk_buff *skb)
{
	return -1;
}

SEC("xdp")
int other_kind(struct xdp_md *context)
{
	return 2;
}

char _license[] SEC("license") = "Dual MIT/GPL";
