/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading the kernel's structures.
 *
 * Since Linux 6.2 a program may say which type stands at an address (bpf_rdonly_cast): then a field is one load, which gives 0 where there is nothing. Before
 * that it takes the call of a helper. The recorder says which it is before the programs are loaded, and the verifier takes the
 * other way out.
 */
#pragma once

#include "types.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

const volatile bool can_cast SEC(".rodata.read") = false;

/* The number at an address, through a type of the kernel's that holds numbers only: a pointer with a type would be more than the verifier wants to follow. */
#define CAST(at) (*(typeof(at))bpf_rdonly_cast((const void *)(at), bpf_core_type_id_kernel(struct timespec64)))
#define FIELD_1(from, a) CAST(&(from)->a)
#define FIELD_2(from, a, b) CAST(&FIELD_1(from, a)->b)
#define FIELD_3(from, a, b, c) CAST(&FIELD_2(from, a, b)->c)
#define FIELD_4(from, a, b, c, d) CAST(&FIELD_3(from, a, b, c)->d)

/* READ(dentry, d_parent, d_inode): what dentry->d_parent->d_inode is. */
#define READ(from, ...)                                                                                                \
	(can_cast ? ___apply(FIELD_, ___narg(__VA_ARGS__))(from, __VA_ARGS__) : BPF_CORE_READ(from, __VA_ARGS__))

/* An element of an array. */
#define READ_AT(array, index)                                                                                          \
	({                                                                                                             \
		typeof(&(array)[0]) at_ = &(array)[index];                                                             \
		typeof((array)[0]) value_ = 0;                                                                         \
                                                                                                                       \
		if (can_cast)                                                                                          \
			value_ = CAST(at_);                                                                            \
		else                                                                                                   \
			bpf_probe_read_kernel(&value_, sizeof(value_), at_);                                           \
		value_;                                                                                                \
	})
