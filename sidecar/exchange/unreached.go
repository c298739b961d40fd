package exchange

// Unreached returns the reply to who wanted a connection when [upstream.Attempts] have
// none; last is why.
func Unreached(last error) *LocalReply {
	r := noHost(last)
	return &r
}
