//go:build linux

package eval

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/certs"
	"whale/internal/tlsconn"
)

// certificate makes one of an authority of its own.
func certificate(t *testing.T, host string) certs.Files {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.Create(dir, []string{host}); err != nil {
		t.Fatal(err)
	}
	return certs.Files{Cert: filepath.Join(dir, certs.NodeCert), Key: filepath.Join(dir, certs.NodeKey), CA: filepath.Join(dir, certs.CACert)}
}

func newTLS(t *testing.T, f certs.Files) *TLS {
	t.Helper()
	c, err := NewTLS(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serveTLS is serve behind TLS that asks for a certificate.
func serveTLS(t *testing.T, c *TLS, reply func(args []string) string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, tls.NewListener(l, c.config), reply)
}

func TestTLSCountsWhatTheServerSaw(t *testing.T) {
	c := newTLS(t, certificate(t, "127.0.0.1"))
	for _, op := range []Op{Set, Get, SetWait} {
		s := serveTLS(t, c, ok)
		res, err := Load{
			Addrs: []string{s.addr}, TLS: c, Op: op, Conns: 7, Pipeline: 5, Value: 10, Keys: 50, Count: 1000, Warmup: time.Hour, Replicas: 2, Workers: 2,
		}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Err(); err != nil {
			t.Fatal(err)
		}
		if got := s.count(strings.Split(op.String(), "+")[0]); got != 1000 || res.Ops < 1000-200-7*5 {
			t.Errorf("%s: the server saw %d requests, want 1000; %d were measured", op, got, res.Ops)
		}
	}
}

// Batches larger than the socket takes at once, and replies of many records that come together.
func TestTLSLargeBatches(t *testing.T) {
	const size = 1 << 20
	value := strings.Repeat("v", size)
	c := newTLS(t, certificate(t, "127.0.0.1"))
	s := serveTLS(t, c, func(args []string) string {
		switch {
		case args[0] == "GET":
			return fmt.Sprintf("$%d\r\n%s\r\n", size, value)
		case len(args[2]) != size:
			return "-ERR length\r\n"
		}
		return "+OK\r\n"
	})
	for _, op := range []Op{Set, Get} {
		res, err := Load{Addrs: []string{s.addr}, TLS: c, Op: op, Conns: 2, Pipeline: 8, Value: size, Keys: 3, Count: 32}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Err(); err != nil {
			t.Error(err)
		}
	}
}

// TestTLSFullSocket: a batch has left when write says so, and not while some of it is encrypted and waits.
func TestTLSFullSocket(t *testing.T) {
	config := newTLS(t, certificate(t, "here")).config
	config.ServerName = "here"
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10)
	accepted := make(chan *tlsconn.Conn, 1)
	go func() {
		server, _ := tlsconn.Server(fds[1], config, dialLimit)
		accepted <- server
	}()
	session, err := tlsconn.Client(fds[0], config, dialLimit)
	server := <-accepted
	if err != nil || server == nil {
		t.Fatal(err)
	}
	const size = 250_000 // several pieces of what is encrypted at once, of which the last is not small
	c := &conn{fd: fds[0], session: session, out: make([]byte, size)}
	b, scratch, got, turns := make([]byte, 3000), make([]byte, 3000), 0, 0
	for full := true; full && turns < 10_000; turns++ {
		if full, err = c.write(); err != nil {
			t.Fatal(err)
		}
		if full {
			n, err := server.Read(b, scratch)
			if got += n; err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
		}
	}
	for {
		n, err := server.Read(b, scratch)
		if got += n; err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if got != size || turns < 10 {
		t.Errorf("%d of %d bytes have left when write says so, in %d turns", got, size, turns)
	}
}

// Each error names the address, and the file and setting that it is about.
func TestTLSErrors(t *testing.T) {
	files, other := certificate(t, "127.0.0.1"), certificate(t, "127.0.0.1")
	elsewhere := certificate(t, "elsewhere")
	good := newTLS(t, files)
	real := serveTLS(t, good, ok).addr
	plain := serve(t, func([]string) string { return "-ERR unknown command\r\n" }).addr
	ends := listen(t, func(c net.Conn) { io.ReadFull(c, make([]byte, 10)) })
	garbage := listen(t, func(c net.Conn) { io.WriteString(c, "-ERR unknown command\r\n"); io.Copy(io.Discard, c) })
	silent := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	old := good.config.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	ancient := serveOn(t, tls.NewListener(l, old), ok).addr
	away := newTLS(t, elsewhere)
	awayServer := serveTLS(t, away, ok).addr
	const without = "leave out --tls-cert, --tls-key and --tls-ca"
	for _, c := range []struct {
		name, addr string
		tls        *TLS
		want       []string
	}{
		{"a server of another authority", real, newTLS(t, certs.Files{Cert: files.Cert, Key: files.Key, CA: other.CA}), []string{"--tls-ca " + other.CA, "not signed by"}},
		{"a certificate of another authority", real, newTLS(t, certs.Files{Cert: other.Cert, Key: other.Key, CA: files.CA}), []string{"refuses the certificate in --tls-cert " + other.Cert}},
		{"another host", awayServer, away, []string{"not good for this host", "whale cert --host"}},
		{"an old server", ancient, good, []string{"it must speak TLS 1.3"}},
		{"no TLS: an error", garbage, good, []string{"does not speak TLS", without}},
		{"no TLS: the end", ends, good, []string{"has ended the connection", without}},
		{"no TLS: silence", silent, &TLS{files: good.files, config: good.config, limit: 100 * time.Millisecond}, []string{"has not answered the handshake of TLS within 100ms", without}},
		{"TLS, and not told so", real, nil, []string{"if it speaks TLS, give --tls-cert"}},
		{"no TLS, and not told so", plain, nil, []string{"unknown command"}},
	} {
		errs := map[string]error{}
		_, errs["Identify"] = Identify(c.addr, c.tls)
		if c.tls != nil {
			_, errs["Load"] = Load{Addrs: []string{c.addr}, TLS: c.tls, Conns: 1, Pipeline: 1, Value: 1, Keys: 1, Count: 1}.Run(t.Context())
		}
		for kind, err := range errs {
			for _, want := range append(c.want, c.addr) {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: %v\nwant %q in it", kind, c.name, err, want)
				}
			}
		}
	}
}

// listen does the same with everybody who connects.
func listen(t *testing.T, do func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); do(c) }()
		}
	}()
	return l.Addr().String()
}

// TestTLSAllocations: beyond those of crypto/tls, which makes two for what it reads and has no say here, an operation
// costs none.
func TestTLSAllocations(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	c := newTLS(t, certificate(t, "127.0.0.1"))
	addr := redisWithTLS(t, c.files)
	if err := fill(t.Context(), c, addr, []string{addr}, 1000, 64); err != nil {
		t.Fatal(err)
	}
	for _, op := range []Op{Set, Get} {
		run := func(count uint64) float64 {
			return testing.AllocsPerRun(1, func() {
				res, err := Load{Addrs: []string{addr}, TLS: c, Op: op, Conns: 2, Pipeline: 1, Value: 64, Keys: 1000, Count: count}.Run(t.Context())
				if err != nil || res.Err() != nil {
					t.Fatal(err, res.Err())
				}
			})
		}
		const more = 5000
		each := (run(1000+more) - run(1000)) / more
		t.Logf("%s: %.3f allocations an operation", op, each)
		if each > 2.05 {
			t.Errorf("%s: %.3f allocations an operation, of which crypto/tls makes 2", op, each)
		}
	}
}

// redisWithTLS starts a redis-server.
func redisWithTLS(t *testing.T, f certs.Files) (addr string) {
	t.Helper()
	needRedis(t)
	port, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := startProcess(dir, "redis", "redis-server", "--port", "0", "--tls-port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir,
		"--tls-cert-file", f.Cert, "--tls-key-file", f.Key, "--tls-ca-cert-file", f.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	c := newTLS(t, f)
	if err := await(t.Context(), 10*time.Second, func() error {
		if err := p.ended(); err != nil {
			return err
		}
		_, err := Identify(addr, c)
		return err
	}); err != nil {
		if err := p.ended(); err != nil && strings.Contains(err.Error(), "tls-port") {
			t.Skip("this redis-server was built without TLS")
		}
		t.Fatal(err)
	}
	return addr
}
