// Package rpcerr says in plain words why a gRPC call failed.
package rpcerr

import (
	"cmp"
	"errors"
	"strings"

	"google.golang.org/grpc/status"
)

// Why says what err is in the words of who found it: without what gRPC writes around
// them. Of a connection that the other end has merely ended it says what that means.
func Why(err error) string {
	said, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return err.Error()
	}
	text := said.GRPCStatus().Message()
	if inner, ok := strings.CutPrefix(text, `connection error: desc = "`); ok {
		text = strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `\"`, `"`)
	}
	for _, noise := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		text = strings.TrimPrefix(text, noise)
	}
	if ended(text) {
		return "it ended the connection without an answer: does it take our certificate (its log says at level debug), and is it what listens there? (" + text + ")"
	}
	return cmp.Or(text, "it gave no reason ("+said.GRPCStatus().Code().String()+")")
}

// ended reports whether a text of gRPC or of the kernel says only that the other end has
// ended the connection. In TLS 1.3 a client learns that it was refused after its handshake,
// by whatever it does next.
func ended(text string) bool {
	for _, sign := range []string{"broken pipe", "connection reset by peer", "remote error: tls: ", "error reading server preface: ", "error reading from server: EOF", "ended without a close_notify"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return text == "EOF"
}
