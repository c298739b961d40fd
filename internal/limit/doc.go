// Package limit bounds what a process holds for those who can reach it. It has three
// measures, none of which an operator sets: they follow from how many files the
// process may have open ([Descriptors]).
//
//   - [Strangers]: connections whose peer has not said who it is. Everybody who reaches
//     a port can make them, so there are few, and a new one is never refused for
//     another that is older: of the source that holds most, the oldest goes. A
//     source is an IPv4 address or an IPv6 /64, which is what one host has.
//   - [Turns]: handshakes that compute, a few at a time. Each source has its turn, and
//     within a source the oldest goes first, so that a thousand at once are served one
//     after the other instead of all too late.
//   - [Shares]: what those may hold who are known. Nobody may hold more than a multiple
//     of what is free, so that there is always something for the next one. It needs no
//     count of who there is, and one who is alone may have nearly everything.
//
// [Places] are so many of something at a time, in all and for one who asks; how many is its
// owner's to say.
//
// A peer that has proved who it is does not count as a stranger any more: a thousand
// sidecars behind one address are no flood.
package limit
