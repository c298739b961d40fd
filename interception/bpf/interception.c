//go:build ignore

// The one object that is built: each hook has its own file, all share the maps.
#include "connect4.c"
#include "connect6.c"
#include "getpeername4.c"
#include "getpeername6.c"
#include "getsockopt.c"
#include "recvmsg4.c"
#include "recvmsg6.c"
#include "sendmsg4.c"
#include "sendmsg6.c"
#include "sk_lookup.c"
#include "sk_msg.c"
#include "sock_create.c"
#include "sockops.c"

char __license[] SEC("license") = "GPL";
