// Programs, none of which runs on frames of a device.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("kprobe/do_nothing")
int trace(void *context)
{
	return 0;
}

SEC("xdp")
int early(struct xdp_md *context)
{
	return 2;
}

char _license[] SEC("license") = "GPL";
