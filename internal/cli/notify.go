package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// notifyServing tells a service manager with Type=notify (sd_notify(3)) that this
// process serves. Without one it does nothing.
func notifyServing() error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	_, err = c.Write([]byte("READY=1"))
	if err := errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
