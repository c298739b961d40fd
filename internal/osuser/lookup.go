package osuser

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// User is a user of this host, as a process needs it that is to run as one.
type User struct {
	Name, Home string
	UID, GID   uint32
	Groups     []uint32 // supplementary ones; GID may be among them
}

// Lookup returns the user of that name, or of that number.
func Lookup(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		var byNumber error
		if u, byNumber = user.LookupId(name); byNumber != nil {
			if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
				return nil, fmt.Errorf("%q is no user of this host", name)
			}
			return nil, err
		}
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %q: %w", name, err)
	}
	found := &User{Name: u.Username, Home: u.HomeDir}
	if found.UID, err = number(u.Uid); err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	if found.GID, err = number(u.Gid); err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	for _, g := range groups {
		n, err := number(g)
		if err != nil {
			return nil, fmt.Errorf("groups of user %q: %w", name, err)
		}
		found.Groups = append(found.Groups, n)
	}
	return found, nil
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	return uint32(n), err
}
