/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What belongs to the recorder itself, so that what is aimed at it can be told. Its process is known before the programs are loaded; the numbers of its programs,
 * tables and links are put into the table once they are attached. Whoever has none of their descriptors gets one by that number only.
 */
#pragma once

#include "maps.h"

/* In the kernel's own numbers; 0 where the recorder does not know its own, in a pid namespace. */
const volatile u32 own_process SEC(".rodata.own") = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	/* The command of bpf(2) that asks for it, and its number. */
	__type(key, u64);
	__type(value, u32);
} own_objects SEC(".maps");

static __always_inline bool is_own(u32 process)
{
	return own_process && process == own_process;
}

/* Whether somebody else than the recorder is at work. */
static __always_inline bool is_other(void)
{
	return !is_own(bpf_get_current_pid_tgid() >> 32);
}

/* Whether it is a program, table or link of the recorder that is asked for. */
static __always_inline bool is_own_object(u32 command, u32 number)
{
	u64 key = (u64)command << 32 | number;

	return bpf_map_lookup_elem(&own_objects, &key) != NULL;
}
