// A program that cannot be without a kernel function, and need not be loaded.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int kernel_function(int number) __ksym;

SEC("?tc")
int wants_it(struct __sk_buff *skb)
{
	return kernel_function(skb->len);
}

SEC("classifier")
int does_not(struct __sk_buff *skb)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
