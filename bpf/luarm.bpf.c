// SPDX-License-Identifier: GPL-2.0
/* Every program that luarm loads into the kernel. They observe; none of them changes, delays or refuses anything. */
#include "process.h"
#include "credentials.h"
#include "memory.h"
#include "namespaces.h"
#include "signals.h"
#include "tcp.h"
#include "packets.h"
#include "files.h"
#include "filenames.h"
#include "uring.h"
#include "found.h"

char LICENSE[] SEC("license") = "GPL";

/* So that the object's type information has every record, for the test that compares them with what the recorder reads. */
#define TELL(name) const struct name *const volatile type_of_##name = 0

TELL(header);
TELL(image);
TELL(actor);
TELL(ids);
TELL(task);
TELL(fork_record);
TELL(exec_record);
TELL(exit_record);
TELL(rename_record);
TELL(credentials_record);
TELL(privilege_record);
TELL(denied_record);
TELL(endpoint_record);
TELL(release_record);
TELL(arguments_record);
TELL(dns_record);
TELL(access_key);
TELL(access);
TELL(place);
TELL(file_record);
TELL(file_end_record);
TELL(answer_record);
TELL(content_record);
TELL(peer_key);
TELL(peer);
