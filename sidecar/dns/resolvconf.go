package dns

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// ResolvConf is what a resolv.conf says, now: a changed file counts from the next
// question on, as in the C library. A file that is gone, names no server, or seems
// to be half written changes nothing until it is whole.
//
// Only nameserver, search and domain matter here. The options are the program's
// resolver's business: it has rotated, counted dots and waited before a question gets
// here. Its methods may be called concurrently.
type ResolvConf struct {
	path string // empty: what is current stays
	log  *slog.Logger

	mu      sync.Mutex
	current resolvers
	looked  time.Time // when the file was last looked at
	applied fileState // of the file that current is from
	torn    fileState // of a file whose last line has no end, when it was last looked at
}

// resolvers are the servers that questions go to and the domains that a program's
// resolver appends to names. They never change.
type resolvers struct {
	servers []netip.AddrPort
	search  []string // canonical names
}

// fileState tells one content of a file from the next. The zero value is no file's.
type fileState struct {
	device, inode   uint64
	size            int64
	changed, status syscall.Timespec // of the content, of the inode
}

// OpenResolvConf reads the resolv.conf at path. Like the C library it takes the local
// machine's server when the file is missing or names none, and leaves out what it does
// not understand. Log receives one line per change; nil discards.
func OpenResolvConf(path string, log *slog.Logger) (*ResolvConf, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &ResolvConf{path: path, log: log}
	content, state, err := readResolvConf(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	r.current, r.applied, r.looked = parseResolvConf(content), state, time.Now()
	if len(r.current.servers) == 0 {
		r.current.servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return r, nil
}

// load returns what holds now. It looks at the file at most every lookEvery, which
// costs one system call.
func (r *ResolvConf) load() resolvers {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.path != "" && now.Sub(r.looked) >= lookEvery {
		r.looked = now
		r.lookLocked()
	}
	return r.current
}

func (r *ResolvConf) lookLocked() {
	if state, err := statFile(r.path); err != nil || state == r.applied {
		return
	}
	content, state, err := readResolvConf(r.path)
	if err != nil {
		r.log.Debug("resolv.conf cannot be read: what it said before holds", "path", r.path, "err", err)
		return
	}
	if !bytes.HasSuffix(content, []byte("\n")) && (state != r.torn || state == fileState{}) {
		r.torn = state // being written, unless it is the same at the next look
		return
	}
	next := parseResolvConf(content)
	if len(next.servers) == 0 {
		return
	}
	if !slices.Equal(next.servers, r.current.servers) || !slices.Equal(next.search, r.current.search) {
		r.log.Info("resolv.conf has changed", "path", r.path, "servers", next.servers, "search", next.search)
	}
	r.current, r.applied = next, state
}

// readResolvConf returns at most maxResolvConf bytes of a file and the state that is of
// that content: none when the file changes meanwhile, so that the next look reads it again.
func readResolvConf(path string) ([]byte, fileState, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileState{}, err
	}
	defer f.Close()
	before, err := stateOf(f.Stat())
	if err != nil {
		return nil, fileState{}, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return nil, fileState{}, err
	}
	after, err := stateOf(f.Stat())
	if before != after {
		after = fileState{}
	}
	return content, after, err
}

func statFile(path string) (fileState, error) { return stateOf(os.Stat(path)) }

func stateOf(info fs.FileInfo, err error) (fileState, error) {
	if err != nil {
		return fileState{}, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileState{}, errors.New("the system does not say which file it is")
	}
	return fileState{device: s.Dev, inode: s.Ino, size: s.Size, changed: s.Mtim, status: s.Ctim}, nil
}

// parseResolvConf reads what resolv.conf(5) describes, as far as the C library does:
// three servers, the last search list, keywords at the start of a line. Without a
// search list it is the domain of the host's name.
func parseResolvConf(content []byte) resolvers {
	var r resolvers
	searched := false
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.ContainsAny(line[:1], "#; \t") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			a, err := netip.ParseAddr(fields[1])
			if err == nil && len(r.servers) < maxServers {
				r.servers = append(r.servers, netip.AddrPortFrom(a, 53))
			}
		case "domain":
			searched, r.search = true, searchList(fields[1:2])
		case "search":
			searched, r.search = true, searchList(fields[1:])
		}
	}
	if !searched {
		if name, err := os.Hostname(); err == nil {
			_, domain, _ := strings.Cut(name, ".")
			r.search = searchList([]string{domain})
		}
	}
	return r
}

// searchList returns those of the domains that can be appended, as canonical names.
func searchList(domains []string) (all []string) {
	for _, d := range domains[:min(len(domains), maxSearch)] {
		name := dns.CanonicalName(d)
		if _, ok := dns.IsDomainName(name); ok && strings.Trim(d, ".") != "" {
			all = append(all, name)
		}
	}
	return all
}
