// Package rotation replaces the root of a mesh, its intermediates and its leaves, one
// step at a time, in the directory in which 'isthmus pki' made them. Where it stands is
// what lies there, so that it goes on after any crash:
//
//	root.pem root-key.pem          what signs now
//	bundle.json                    the newest bundle, see package identity
//	next/root.pem root-key.pem     1: made, and part of the bundle; nothing is under it yet
//	old/root.pem root-key.pem      2: intermediates and leaves are under the new one, which is root.pem
//	                               3: and the old one is retired by the bundle
//	                               4: gone
//
// Whether everybody is ready for the next step is not known here.
package rotation
