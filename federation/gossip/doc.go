// Package gossip checks what another gateway's memberlist says before ours reads it.
// It has no I/O of its own, no clock and no goroutine, and does not import memberlist.
//
// memberlist was written for peers that share a secret. Its parsers take encrypted and
// compressed messages within messages, any message about anybody, and some malformed
// ones end the process. So it is given nothing that a peer wrote: every message is read
// here into a [message], checked, and written anew.
//
// # What is read
//
// A packet is one message or a compound of messages, perhaps behind a checksum; a
// stream is one message each way. A message is a type byte and one MessagePack map
// of numbers, truth values and byte strings; a push/pull is several maps.
//
//	packet      ::= [ 12 crc32 ] ( message | 7 count length… message… )
//	message     ::= type map                       a ping, an indirect ping, an ack, a nack,
//	                                               suspect, alive, dead
//	stream      ::= 0 ping | 6 header node…        and back: 2 ack | 6 header node… | 13 error
//
// Everything else is refused: compounds within compounds, compressed and encrypted
// messages, labels, messages of users, fields that are arrays or maps, more than
// [maxFields] of them, more than [MaxNodes] nodes, strings of more than [maxBytes].
//
// # What is believed
//
// The peer is known: its packets and streams come by a tunnel. A ping and an indirect
// ping are its own, so that the answer goes to nobody else, and a ping asks for this
// gateway. A node has the name of a gateway and the address that belongs to that name.
// Only the peer itself can say that it has left; who says it of another says that it
// is dead, which the other denies if it is not. All else that is said of others is
// hearsay: its teller may lie, and only a look follows from it.
package gossip
