//go:build linux

package eval

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// redisTrio is a redis-server with two replicas, on loopback, that keep nothing on disk.
type redisTrio struct {
	dir   string
	tls   *TLS
	procs []*process
	addrs []string // the primary first
}

// startRedis starts one and waits until both replicas follow.
func startRedis(ctx context.Context, binary, parent string, t *TLS) (*redisTrio, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, fmt.Errorf("%w: install redis-server (Debian: apt-get install redis-server), or name it with --redis-server", err)
	}
	base, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	r := &redisTrio{tls: t, dir: filepath.Join(parent, fmt.Sprintf("redis-%d", base))}
	for i := range 3 {
		// A folder each: a replica leaves the snapshot that it was sent, which another server would load at its start.
		dir := filepath.Join(r.dir, strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			r.stop()
			return nil, err
		}
		port := []string{"--port", strconv.Itoa(base + i)}
		if t != nil {
			port = append([]string{"--port", "0", "--tls-port", strconv.Itoa(base + i), "--tls-replication", "yes"}, t.flags("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file")...)
		}
		argv := append([]string{path}, port...)
		argv = append(argv,
			"--bind", "127.0.0.1", "--dir", dir, "--daemonize", "no",
			"--save", "", "--appendonly", "no", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
			// A replica that falls behind for a while is not cut off: it would have to begin anew in the middle of a run.
			"--client-output-buffer-limit", "replica 0 0 0",
		)
		if i > 0 {
			argv = append(argv, "--replicaof", "127.0.0.1 "+strconv.Itoa(base))
		}
		p, err := startProcess(dir, "redis", argv...)
		if err != nil {
			r.stop()
			return nil, err
		}
		r.procs = append(r.procs, p)
		r.addrs = append(r.addrs, fmt.Sprintf("127.0.0.1:%d", base+i))
	}
	if err := await(ctx, 30*time.Second, r.check); err != nil {
		r.stop()
		if strings.Contains(err.Error(), "tls-port") {
			err = fmt.Errorf("%w\nthis redis-server was built without TLS: name another with --redis-server", err)
		}
		return nil, err
	}
	return r, nil
}

// check is nil while both replicas follow and none had to begin anew.
func (r *redisTrio) check() error {
	for _, p := range r.procs {
		if err := p.ended(); err != nil {
			return err
		}
	}
	info, err := infoOf(r.addrs[0], r.tls)
	if err != nil {
		return err
	}
	for i := range 2 {
		if line := info["slave"+strconv.Itoa(i)]; parseFields(line)["state"] != "online" {
			return fmt.Errorf("%s: replica %d is not online (%q)", r.addrs[0], i, line)
		}
	}
	if n := info["sync_full"]; n != "2" {
		return fmt.Errorf("%s: %s full synchronisations instead of one for each replica: the comparison is spoilt", r.addrs[0], n)
	}
	for _, addr := range r.addrs[1:] {
		info, err := infoOf(addr, r.tls)
		if err != nil {
			return err
		}
		if s := info["master_link_status"]; s != "up" {
			return fmt.Errorf("%s: the link to the primary is %q", addr, s)
		}
	}
	return nil
}

func (r *redisTrio) stop() {
	for _, p := range r.procs {
		p.stop()
	}
	os.RemoveAll(r.dir)
}

// infoOf is all of INFO.
func infoOf(addr string, t *TLS) (map[string]string, error) {
	c, err := dialControl(addr, t)
	if err != nil {
		return nil, err
	}
	defer c.close()
	text, err := c.do("INFO")
	if err != nil {
		return nil, fmt.Errorf("%s: INFO: %w", addr, err)
	}
	return parseInfo(text), nil
}

// settle waits until both copies of everything written at addr are there, so that nothing of one run is left to be done
// during the next.
func settle(addr string, t *TLS, value int) error {
	c, err := dialControl(addr, t)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.do("SET", "key:000000000000", string(make([]byte, value))); err != nil {
		return fmt.Errorf("%s: SET: %w", addr, err)
	}
	n, err := c.do("WAIT", "2", "8000")
	if err == nil && n != "2" {
		err = errors.New("only " + n + " of 2 copies within 8 s")
	}
	if err != nil {
		return fmt.Errorf("%s: WAIT 2: %w", addr, err)
	}
	return nil
}
