package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// readKey reads a file that holds a private key. One that the group or others may read
// is refused: whoever can read it can be this process. POSIX ACLs are understood, since
// systemd's LoadCredential= grants a service its key by one.
func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	acl, err := readACL(f)
	if err != nil {
		return nil, fmt.Errorf("%s: its access control list: %w", path, err)
	}
	if whom := otherReaders(modeFor(info, uint32(os.Geteuid()), uint32(os.Getegid())), acl, uint32(os.Geteuid())); whom != "" {
		return nil, fmt.Errorf("%s: %s may read this private key (mode %#o), and be whom it makes: chmod 600 %[1]s", path, whom, info.Mode().Perm())
	}
	return readOpen(f)
}

// OtherReaders returns who but the owner may read a file that is as good as a private key,
// such as a token, in words; empty: nobody, as far as can be seen.
func OtherReaders(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	acl, err := readACL(f)
	if err != nil {
		return ""
	}
	return otherReaders(modeFor(info, uint32(os.Geteuid()), uint32(os.Getegid())), acl, uint32(os.Geteuid()))
}

// The tags of the entries of a POSIX ACL, as acl(5) and linux/posix_acl.h number them.
const (
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08

	aclVersion   = 2
	aclEntrySize = 8
	aclRead      = 4

	maxACL = 4 << 10 // bytes: about 500 entries
)

// readACL returns the ACL of a file as the kernel writes it; empty: it has none.
func readACL(f *os.File) ([]byte, error) {
	acl := make([]byte, maxACL)
	n, err := unix.Fgetxattr(int(f.Fd()), "system.posix_acl_access", acl)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return acl[:n], nil
}

// modeFor is a file's mode for the user and group of this process, without the right of a
// group that is nobody else's: root's file, given to a user that is not root by the group
// of that user's number. So Kubernetes gives a pod its Secrets (fsGroup).
func modeFor(info os.FileInfo, uid, gid uint32) os.FileMode {
	mode := info.Mode().Perm()
	if f, ok := info.Sys().(*syscall.Stat_t); ok && f.Uid == 0 && uid != 0 && f.Gid == gid && gid == uid {
		return mode &^ 0o040
	}
	return mode
}

// otherReaders says who else may read a file of this mode and ACL than its owner and
// the user self; "": nobody.
func otherReaders(mode os.FileMode, acl []byte, self uint32) string {
	if mode&0o004 != 0 {
		return "everybody"
	}
	if len(acl) == 0 {
		if mode&0o040 != 0 {
			return "its group"
		}
		return ""
	}
	// With an ACL the mode's bits of the group are the mask of all its entries.
	if mode&0o040 == 0 {
		return ""
	}
	const head = 4
	if len(acl) < head || binary.LittleEndian.Uint32(acl) != aclVersion || (len(acl)-head)%aclEntrySize != 0 {
		return "nobody knows who (an access control list of an unknown form)"
	}
	for e := acl[head:]; len(e) > 0; e = e[aclEntrySize:] {
		tag, perm, id := binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), binary.LittleEndian.Uint32(e[4:])
		switch {
		case perm&aclRead == 0:
		case tag == aclGroupObj:
			return "its group"
		case tag == aclGroup:
			return fmt.Sprintf("group %d", id)
		case tag == aclUser && id != self && self != 0:
			return fmt.Sprintf("user %d", id)
		}
	}
	return ""
}
