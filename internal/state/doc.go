// Package state has the few mechanisms that everything which keeps a value
// shares: publish it whole ([Store]), wake who works on it ([Notify]), try again
// later ([Backoff]), wait until something is past ([Await]), and keep it on disk ([Saver]).
//
// A published value never changes. A reader takes it with [Store.Load], or with
// [Store.Snapshot] together with a channel that closes when it is past.
package state
