//! Helpers as programs meet them.

mod call_backs;
mod formats;
mod frames;
mod hostile;
mod locks;
mod maps;
mod prints;

use super::names::NAMES;
use super::*;

#[test]
fn every_helper_of_the_kernel_has_its_name() {
    assert_eq!(name(1), "bpf_map_lookup_elem");
    assert_eq!(name(12), "bpf_tail_call");
    assert_eq!(name(208), "bpf_ktime_get_tai_ns");
    assert_eq!(name(211), "bpf_cgrp_storage_delete");
    assert_eq!(name(0), "an unknown helper");
    assert_eq!(name(u32::MAX), "an unknown helper");
    assert!(NAMES[1..].iter().all(|name| name.starts_with("bpf_")));
}

#[test]
fn a_helper_is_found_under_its_own_number_or_refused() {
    for id in 0..NAMES.len() as u32 + 10 {
        match find(id) {
            Some(helper) => {
                assert_eq!(helper.id, id);
                assert_eq!(refusal(id), None);
            }
            None => assert_eq!(refusal(id).is_none(), id == TAIL_CALL, "{id}"),
        }
    }
    assert!(find(u32::MAX).is_none());
    assert_eq!(refusal(u32::MAX), Some(Refusal::Unknown(u32::MAX)));
    let calling_back: Vec<u32> = (0..300)
        .filter(|id| find(*id).is_some_and(|it| it.calls_back))
        .collect();
    assert_eq!(calling_back, [164, 181]);
}

#[test]
fn a_refusal_names_the_helper_and_says_why() {
    assert_eq!(
        refusal(113).unwrap().to_string(),
        "bpf_probe_read_kernel (helper 113) is not supported: it reads memory by address, and a program here has no \
         address of the kernel or of a process"
    );
    assert_eq!(
        refusal(44).unwrap().to_string(),
        "bpf_xdp_adjust_head (helper 44) is not for tc and netkit programs, in Linux neither"
    );
    assert_eq!(
        refusal(212).unwrap().to_string(),
        "there is no helper 212: Linux 6.12 has 1 to 211"
    );
}

/// filter.c: tc_cls_act_func_proto, helpers.c: bpf_base_func_proto; the helpers in `packet` left out.
#[test]
fn what_linux_has_for_tc_programs_is_found_or_refused_for_a_reason_of_our_own() {
    let tc = [
        13, 17, 20, 21, 23, 24, 25, 29, 30, 33, 46, 47, 66, 69, 79, 83, 84, 85, 86, 95, 96, 98, 99, 100, 107,
        108, 110, 122, 124, 151, 152, 155, 204, 205, 206, 207,
    ];
    let any = [
        1, 2, 3, 4, 5, 6, 7, 8, 14, 35, 42, 80, 87, 88, 89, 93, 94, 105, 106, 112, 113, 114, 115, 118, 120,
        123, 125, 130, 131, 132, 133, 134, 136, 137, 138, 139, 140, 149, 153, 154, 158, 160, 164, 165, 169,
        170, 171, 172, 175, 177, 178, 181, 182, 194, 195, 196, 197, 198, 199, 200, 201, 202, 203, 208, 209,
        210, 211,
    ];
    for id in tc.into_iter().chain(any) {
        assert!(
            !matches!(refusal(id), Some(Refusal::OtherProgramType(_))),
            "{}",
            name(id)
        );
    }
}
