// SPDX-License-Identifier: GPL-2.0
/* Every program that luarm loads into the kernel. They observe; none of them changes, delays or refuses anything. */
#include "process.h"
#include "credentials.h"
#include "tcp.h"
#include "packets.h"
#include "found.h"

char LICENSE[] SEC("license") = "GPL";
