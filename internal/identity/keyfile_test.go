package identity

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAKeyThatOthersMayReadIsRefusedWhereverItIsRead(t *testing.T) {
	dir := t.TempDir()
	root, err := NewRoot("mesh.example", DefaultRootTTL)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := root.NewCluster("east", nil, DefaultClusterTTL)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := cluster.Issue(Request{ID: ID{Gateway: "east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{root.Save(dir, false), cluster.Save(dir, false), leaf.Save(filepath.Join(dir, "leaf"), false)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for key, open := range map[string]func() error{
		"root-key.pem":    func() error { _, err := OpenRoot(dir); return err },
		"east/ca-key.pem": func() error { _, err := OpenCluster(dir, mesh.ClusterName("east")); return err },
		"leaf/key.pem":    func() error { _, err := Open(filepath.Join(dir, "leaf")); return err },
	} {
		path := filepath.Join(dir, key)
		for mode, want := range map[os.FileMode]string{
			0o600: "", 0o400: "", 0o700: "",
			0o640: path + ": its group may read this private key (mode 0640), and be whom it makes: chmod 600 " + path,
			0o604: path + ": everybody may read", 0o644: path + ": everybody may read", 0o440: "its group may read",
		} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if err := open(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s with mode %#o: %v, want %q", key, mode, err, want)
			}
		}
	}
}

// stat is what the kernel says of a file.
type stat struct {
	os.FileInfo
	said syscall.Stat_t
}

func (s stat) Mode() os.FileMode { return os.FileMode(s.said.Mode) }
func (s stat) Sys() any          { return &s.said }

func TestAKeyThatRootGivesToAUsersOwnGroupIsTakenAsKubernetesMountsIt(t *testing.T) {
	for _, c := range []struct {
		name             string
		owner, group     uint32
		uid, gid         uint32
		mode, wantedMode uint32
	}{
		{"a Secret in a pod with fsGroup", 0, 65532, 65532, 65532, 0o440, 0o400},
		{"that others read, too", 0, 65532, 65532, 65532, 0o444, 0o404},
		{"another group's", 0, 100, 65532, 65532, 0o440, 0o440},
		{"a group of many", 0, 100, 65532, 100, 0o440, 0o440},
		{"another user's file", 7, 65532, 65532, 65532, 0o440, 0o440},
		{"the user's own", 65532, 65532, 65532, 65532, 0o440, 0o440},
		{"root's own", 0, 0, 0, 0, 0o440, 0o440},
	} {
		if got := modeFor(stat{said: syscall.Stat_t{Uid: c.owner, Gid: c.group, Mode: c.mode}}, c.uid, c.gid); got != os.FileMode(c.wantedMode) {
			t.Errorf("%s: judged by mode %#o, want %#o", c.name, got, c.wantedMode)
		}
	}
}

// aclEntry is an entry of a POSIX ACL.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

func encodeACL(entries ...aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, e.tag), e.perm), e.id)
	}
	return b
}

func TestAnACLThatGrantsTheKeyToThisUserOnlyIsTaken(t *testing.T) {
	const self, undefined = 1000, 0xffffffff
	owner, others := aclEntry{0x01, 4, undefined}, aclEntry{0x20, 0, undefined}
	mask := aclEntry{0x10, 4, undefined}
	noGroup := aclEntry{aclGroupObj, 0, undefined}
	for _, c := range []struct {
		name string
		mode os.FileMode
		acl  []byte
		want string
	}{
		{"as systemd writes it", 0o440, encodeACL(owner, aclEntry{aclUser, 4, self}, noGroup, mask, others), ""},
		{"another user", 0o440, encodeACL(owner, aclEntry{aclUser, 4, 1001}, noGroup, mask, others), "user 1001"},
		{"another user, masked", 0o400, encodeACL(owner, aclEntry{aclUser, 4, 1001}, noGroup, aclEntry{0x10, 0, undefined}, others), ""},
		{"another user who may only write", 0o460, encodeACL(owner, aclEntry{aclUser, 2, 1001}, noGroup, mask, others), ""},
		{"the group", 0o440, encodeACL(owner, aclEntry{aclUser, 4, self}, aclEntry{aclGroupObj, 4, undefined}, mask, others), "its group"},
		{"another group", 0o440, encodeACL(owner, noGroup, aclEntry{aclGroup, 4, 7}, mask, others), "group 7"},
		{"everybody", 0o444, encodeACL(owner, noGroup, mask, aclEntry{0x20, 4, undefined}), "everybody"},
		{"none, and the group", 0o440, nil, "its group"},
		{"cut off", 0o440, encodeACL(owner)[:7], "unknown form"},
		{"of another version", 0o440, []byte{9, 0, 0, 0}, "unknown form"},
	} {
		if got := otherReaders(c.mode, c.acl, self); got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q may read it, want %q", c.name, got, c.want)
		}
	}
}

func TestAnACLIsReadFromTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	const undefined = 0xffffffff
	acl := encodeACL(aclEntry{0x01, 4, undefined}, aclEntry{aclUser, 4, uint32(os.Geteuid())}, aclEntry{aclGroupObj, 0, undefined},
		aclEntry{0x10, 4, undefined}, aclEntry{0x20, 0, undefined})
	if err := unix.Setxattr(path, "system.posix_acl_access", acl, 0); err != nil {
		harness.Lacking(t, "the file system of temporary files keeps no ACLs: "+err.Error())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o440 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if b, err := readKey(path); err != nil || string(b) != "key" {
		t.Errorf("%q, %v", b, err)
	}
}
