// Package epoll waits until sockets can be read that may be idle for long: one goroutine
// waits for all of them, in an epoll set of its own, so that none needs a goroutine, a stack
// or a buffer meanwhile.
//
//	Wait(place, conn, f) ──▶ epoll set ──▶ Run: f ──▶ go … Read
//
// It never reads, and does not own the sockets. The kernel forgets one that is closed, and
// nobody hears of that: who closes a socket for which somebody waits calls [Set.Wake].
//
// Sources: epoll(7), epoll_ctl(2): EPOLLONESHOT, questions 6 and 7 on closed descriptors.
package epoll
