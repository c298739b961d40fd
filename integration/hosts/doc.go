// Package hosts makes hosts of network namespaces: each has a cable into a switch,
// which is a namespace as well, with one bridge per network. Programs of the real
// world run on them with their production ports. The tests in integration/netns and the
// program integration/soak build their clusters of it.
//
// A namespace is named isthmus-PID-HOST, an interception netns-PID-NAME and the
// directory of all files isthmus-PID-world, PID being that of who made it: so that
// two runs do not meet, and what a killed one left behind is known.
//
// It takes root.
package hosts
