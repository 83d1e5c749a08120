/* SPDX-License-Identifier: GPL-2.0 */
/* The rings to the recorder, how to write to them, and the count of what they could not take. */
#pragma once

#include "read.h"
#include "records.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

/* Records of bounded size: what happened. Sizes are set at load time. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} events SEC(".maps");

/* What someone can make large at will, arguments and DNS messages: when it is full, no event is lost with it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} bulk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CLASSES);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");

static __always_inline void lose(u32 class)
{
	u64 *n = bpf_map_lookup_elem(&lost, &class);

	if (n)
		(*n)++;
}

/* The recorder looks at the rings ten times a second by itself; it is only woken when one is a quarter full. */
static __always_inline u64 wakeup(void *ring)
{
	u64 full = bpf_ringbuf_query(ring, BPF_RB_RING_SIZE), waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);

	return waiting >= full / 4 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Copies a finished record into the ring of events. */
static __always_inline bool give(void *record, u64 size, u32 class)
{
	if (bpf_ringbuf_output(&events, record, size, wakeup(&events)) == 0)
		return true;
	lose(class);
	return false;
}

static __always_inline struct header header(u32 kind)
{
	return (struct header){ .kind = kind, .at = bpf_ktime_get_boot_ns() };
}
