package connect

import (
	"errors"
	"net"
)

// IsTimeout reports whether err says that something did not come in time.
func IsTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
