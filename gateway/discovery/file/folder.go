package file

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// folder is what is known of a directory: the last good content of every file.
// It is driven by scan and has no goroutine.
type folder struct {
	dir     string // empty: none
	files   map[string]*entry
	scanned bool
}

type entry struct {
	stamp  stamp
	read   time.Time         // when the file with that stamp was read
	sum    [sha256.Size]byte // of what was read; zero: it could not be
	last   resource.Content  // the last good one
	loaded time.Time
	err    error // what is wrong with the file as it is now
	clash  error // what other files say already
}

// stamp changes when a file does, unless that is too soon after the last change.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// scan reads the files that have changed, and parses those that say something else
// now. It reports whether anything is different. It returns an error, and has
// changed nothing, when the directory cannot be read.
func (f *folder) scan() (changed bool, err error) {
	names, err := resourceFiles(f.dir)
	if err != nil {
		return false, err
	}
	changed, f.scanned = !f.scanned, true
	for name := range f.files {
		if _, there := slices.BinarySearch(names, name); !there {
			delete(f.files, name)
			changed = true
		}
	}
	for _, name := range names {
		e := f.files[name]
		if e == nil {
			e = &entry{}
			f.files[name] = e
			changed = true
		}
		if e.update(filepath.Join(f.dir, name)) {
			changed = true
		}
	}
	return changed, nil
}

// update reads the file when it has changed, or may have changed unseen: within
// stampAge of its last change it can change again and keep its stamp. It reports
// whether the file says something else, or has another fault.
func (e *entry) update(path string) (changed bool) {
	info, err := os.Stat(path)
	if err != nil {
		return e.fail(err)
	}
	s := stampOf(info)
	if s == e.stamp && e.read.Sub(s.modified) > stampAge {
		return false
	}
	e.stamp, e.read = s, time.Now()
	data, err := readFile(path)
	if err != nil {
		return e.fail(err)
	}
	sum := sha256.Sum256(data)
	if sum == e.sum {
		return false
	}
	e.sum = sum
	c, err := resource.Parse(path, data)
	if err == nil {
		e.last, e.loaded = c, time.Now()
	}
	e.err = err
	return true
}

// fail takes note of why the file cannot be read, which it reports to be new or not.
func (e *entry) fail(err error) (changed bool) {
	changed = e.err == nil || e.err.Error() != err.Error()
	e.err, e.stamp, e.sum = err, stamp{}, [sha256.Size]byte{}
	return changed
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{modified: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// readFile reads a regular file up to the decoder's bound; a pipe or device
// would block the scan.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, strictyaml.Faults{{Source: path, Problem: "is not a regular file: remove it"}}
	}
	if info.Size() > strictyaml.MaxBytes {
		return nil, strictyaml.Faults{{Source: path, Problem: fmt.Sprintf("is larger than %d MiB: split it", strictyaml.MaxBytes>>20)}}
	}
	return os.ReadFile(path)
}

// resourceFiles returns the names of the directory's resource files, sorted.
// Hidden files and what editors leave behind do not count.
func resourceFiles(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, dirError(dir, err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".yaml", ".yml", ".json":
			if !strings.HasPrefix(name, ".") && !e.IsDir() {
				names = append(names, name)
			}
		}
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("resources directory %s holds %d files: at most %d are read: join some", dir, len(names), maxFiles)
	}
	return names, nil
}

func dirError(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("resources directory %s does not exist: create it, or remove the key resources", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("resources directory %s may not be read: check its owner and mode", dir)
	}
	return fmt.Errorf("read resources directory: %w", err)
}

// services joins the files' last good contents. Where two files describe the
// same service, the later one's clash says so.
func (f *folder) services() []discovery.Described {
	type origin struct {
		resource.Described
		file string
	}
	byName := map[mesh.ServiceName]*origin{}
	exported := map[mesh.ServiceName]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		e := f.files[name]
		var clashes strictyaml.Faults
		for _, s := range e.last.Services {
			path := filepath.Join(f.dir, name)
			if first := byName[s.Service.Name]; first != nil {
				clashes = append(clashes, strictyaml.Fault{Source: path, Line: s.Line, Key: "metadata.name",
					Problem: fmt.Sprintf("%s is described at %s:%d already, which is used: remove one", s.Service.Name, first.file, first.Line)})
				continue
			}
			if len(byName) >= maxServices {
				clashes = append(clashes, strictyaml.Fault{Source: path, Line: s.Line,
					Problem: fmt.Sprintf("is one service too many: at most %d are read", maxServices)})
				break
			}
			byName[s.Service.Name] = &origin{s, path}
		}
		e.clash = clashes.Err()
		for _, x := range e.last.Exports {
			exported[x] = true
		}
	}
	all := make([]discovery.Described, 0, len(byName))
	for name, s := range byName {
		if exported[name] {
			s.Service.Export = new(true)
		}
		delete(exported, name)
		all = append(all, s.Described.Described)
	}
	for name := range exported { // of a service that another source knows
		all = append(all, discovery.Described{Service: discovery.Service{Name: name, Declared: true, Export: new(true)}})
	}
	slices.SortFunc(all, func(a, b discovery.Described) int { return a.Service.Name.Compare(b.Service.Name) })
	return all
}

// status returns the state of every file, sorted by name.
func (f *folder) status() []Status {
	all := make([]Status, 0, len(f.files))
	for name, e := range f.files {
		s := Status{File: name, Services: len(e.last.Services), Loaded: e.loaded}
		if err := cmp.Or(e.err, e.clash); err != nil {
			s.Err = err.Error()
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.File, b.File) })
	return all
}

// Resources are what the files of a directory describe.
type Resources struct {
	Services []discovery.Described // sorted by name
	Policies []policy.Policy
	Routes   *traffic.Set
}

// Check reads dir once and returns what its files describe. The error joins
// everything that is wrong with them; what is good is returned all the same, but for
// policies, which are nil when not all of them are known.
func Check(dir string) (Resources, error) {
	f := folder{dir: dir, files: map[string]*entry{}}
	if _, err := f.scan(); err != nil {
		return Resources{}, err
	}
	all := Resources{Services: f.services()}
	var unknown string
	var errs []error
	all.Policies, unknown = f.policies()
	all.Routes = f.routes()
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		errs = append(errs, f.files[name].err, f.files[name].clash)
	}
	if err := errors.Join(errs...); err != nil || unknown == "" {
		return all, err
	}
	return all, fmt.Errorf("policies in %s are not known: %s", dir, unknown)
}
