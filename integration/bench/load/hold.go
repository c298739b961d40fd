package load

import (
	"fmt"
	"net"
	"time"
)

// Hold opens all connections, has one request answered on each, says so, and keeps them
// until it is released. That they are open then is an error otherwise.
func Hold(o Options, ready func() error, release <-chan struct{}) error {
	dialer := net.Dialer{Timeout: o.Timeout, KeepAlive: -1}
	held := make([]net.Conn, 0, o.Connections)
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range o.Connections {
		c, err := dialer.Dial("tcp4", o.Address.String())
		if err != nil {
			return err
		}
		held = append(held, c)
		if err := once(c, o); err != nil {
			return fmt.Errorf("connection %d: %w", len(held), err)
		}
	}
	if err := ready(); err != nil {
		return err
	}
	<-release
	for i, c := range held {
		_ = c.SetReadDeadline(time.Now().Add(-time.Second))
		var b [1]byte
		if _, err := c.Read(b[:]); err == nil || !err.(net.Error).Timeout() { //nolint:errorlint // what net.Conn returns
			return fmt.Errorf("connection %d of %d did not stay open: %w", i+1, len(held), err)
		}
	}
	return nil
}

// once has one request answered on a connection.
func once(c net.Conn, o Options) error {
	_ = c.SetDeadline(time.Now().Add(o.Timeout))
	speaks := o.Protocol.client(o)
	out := speaks.hello(nil)
	buffer := make([]byte, 64<<10)
	held, asked, answered := 0, false, false
	for !answered {
		if !asked && speaks.ready() {
			out, _ = speaks.request(out)
			asked = true
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		n, err := c.Read(buffer[held:])
		if err != nil {
			return err
		}
		held += n
		used, err := speaks.read(buffer[:held], &out, func(uint32) { answered = true })
		if err != nil {
			return err
		}
		held = copy(buffer, buffer[used:held])
	}
	return nil
}
