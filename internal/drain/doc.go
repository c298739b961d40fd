// Package drain keeps account of what a part has open, so that all of it can be
// ended well. It has the four things that whoever accepts connections needs:
//
//   - accept ([Set.Accept]): a goroutine per connection, bounds, and who goes when
//     they are reached or the process is out of descriptors;
//   - track ([Set.Add]): what is open, and whether it waits for work;
//   - drain ([Set.Drain], [Set.Abort]): nothing new, what is idle ends soon, what
//     works may finish, what does not finish in time is cut;
//   - judge again ([Entry.Proved], [Set.Watch]): a connection outlives the handshake
//     in which its peer proved who it is. It ends with the first certificate of the
//     peer's chain, and when what this process trusts has changed and that peer
//     would not be let in any more.
package drain
