package netns

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// password is the database's: it asks for one.
const password = "correct horse"

// services starts the servers, all on loopback of their hosts and in clusters that
// their callers are not in, and the one outside of the mesh.
func (w *world) services() error {
	nginx, err := w.nginx()
	if err != nil {
		return err
	}
	database, err := w.database()
	if err != nil {
		return err
	}
	for _, s := range []struct {
		service
		argv []string
	}{
		{service{"orders", west, 10, 80, "http"}, nginx},
		{service{"cache", west, 11, 6379, "tcp"}, []string{"redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", w.dir}},
		{service{"db", north, 10, 5432, "tcp"}, database},
		{service{"health", north, 11, 50051, "grpc"}, []string{self, "program", "serve-grpc", "127.0.0.1:50051"}},
		{service{"chat", north, 12, 8080, "http"}, []string{self, "program", "serve-websocket", "127.0.0.1:8080"}},
	} {
		if err := w.serve(s.service, s.argv...); err != nil {
			return err
		}
	}
	h, err := w.resident("outside", east, outside)
	if err != nil {
		return err
	}
	_, err = h.start("outside-server", self, "program", "serve-direct", ":80")
	return err
}

// nginx writes the files of an nginx that says who it is and whom it saw.
func (w *world) nginx() ([]string, error) {
	dir := w.path("nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	return []string{"nginx", "-p", dir, "-c", conf, "-e", "stderr"}, os.WriteFile(conf, []byte(`daemon off;
worker_processes 1;
pid nginx.pid;
events {}
http {
	access_log off;
	server {
		listen 127.0.0.1:80;
		location / { return 200 "nginx in west, for $http_x_forwarded_client_cert\n"; }
	}
}
`), 0o600)
}

// database makes a PostgreSQL cluster, which refuses to be root's.
func (w *world) database() ([]string, error) {
	dir := w.path("postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(owner.Gid)
	if err != nil {
		return nil, err
	}
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		return nil, err
	}
	for _, path := range []string{dir, secret} {
		if err := os.Chown(path, uid, gid); err != nil {
			return nil, err
		}
	}
	initdb, err := postgres("initdb")
	if err != nil {
		return nil, err
	}
	server, err := postgres("postgres")
	if err != nil {
		return nil, err
	}
	asOwner := []string{"setpriv", "--reuid", owner.Uid, "--regid", owner.Gid, "--clear-groups", "--pdeathsig", "KILL"}
	data := filepath.Join(dir, "data")
	create := append(asOwner[1:len(asOwner):len(asOwner)], initdb, "-D", data, "--no-sync", "--locale=C", "--auth=scram-sha-256", "--pwfile="+secret)
	cmd := exec.Command(asOwner[0], create...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return append(asOwner, server, "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"), nil
}

// postgres is the path of a program of PostgreSQL's server, which Debian keeps out
// of PATH.
func postgres(program string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("PostgreSQL's %s is not installed", program)
	}
	return found[len(found)-1], nil
}
