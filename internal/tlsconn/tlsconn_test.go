//go:build linux

package tlsconn_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/certs"
	"whale/internal/tlsconn"
)

const limit = 10 * time.Second

// configuration is good for both sides.
func configuration(t *testing.T) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.Create(dir, []string{"here"}); err != nil {
		t.Fatal(err)
	}
	c, err := certs.Files{Cert: filepath.Join(dir, certs.NodeCert), Key: filepath.Join(dir, certs.NodeKey), CA: filepath.Join(dir, certs.CACert)}.Load()
	if err != nil {
		t.Fatal(err)
	}
	c.ServerName = "here"
	return c
}

// sockets are two ends of a stream.
func sockets(t *testing.T) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds
}

// pair is a server and a client that have shaken hands, and their sockets.
func pair(t *testing.T) (server, client *tlsconn.Conn, fds [2]int) {
	t.Helper()
	config, fds := configuration(t), sockets(t)
	type result struct {
		c   *tlsconn.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := tlsconn.Server(fds[0], config, limit)
		done <- result{c, err}
	}()
	client, err := tlsconn.Client(fds[1], config, limit)
	s := <-done
	if err := errors.Join(err, s.err); err != nil {
		t.Fatal(err)
	}
	return s.c, client, fds
}

// end is one side of a conversation: what it has to say, and what it has heard.
type end struct {
	*tlsconn.Conn
	say, heard []byte
}

// TestBothWaysInAnyPieces: whatever the pieces in which it is written and read, with a socket that is full half of the
// time, everything arrives, in order; and More is never false while crypto/tls still holds bytes.
func TestBothWaysInAnyPieces(t *testing.T) {
	s, c, fds := pair(t)
	for _, fd := range fds {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	ends := [2]*end{{Conn: s}, {Conn: c}}
	for _, e := range ends {
		e.say = make([]byte, 3<<20)
		for i := range e.say {
			e.say[i] = byte(rng.Uint32())
		}
	}
	want := [2][]byte{ends[1].say, ends[0].say}
	shared := make([]byte, 5000) // and dirty after each read
	full := 0
	for step := 0; len(ends[0].heard) < len(want[0]) || len(ends[1].heard) < len(want[1]); step++ {
		if step > 1_000_000 {
			t.Fatalf("heard %d and %d of %d bytes", len(ends[0].heard), len(ends[1].heard), len(want[0]))
		}
		e := ends[rng.IntN(2)]
		if rng.IntN(2) == 0 {
			n, err := e.Write(e.say[:min(len(e.say), rng.IntN(100_000))])
			e.say = e.say[n:]
			if err == nil {
				err = e.Flush()
			}
			if (err == unix.EAGAIN) != (e.Unsent() > 0) || err != nil && err != unix.EAGAIN {
				t.Fatalf("%v, and %d bytes unsent", err, e.Unsent())
			}
			if err != nil {
				full++
			}
			continue
		}
		b := make([]byte, 1+rng.IntN(40_000))
		n, err := e.Read(b, shared)
		for i := range shared {
			shared[i] = 0xee
		}
		if err != nil && err != unix.EAGAIN || err == unix.EAGAIN && n > 0 || err == nil && n == 0 {
			t.Fatalf("Read: %d, %v", n, err)
		}
		if e.More() != (n == len(b)) {
			t.Fatalf("%d of %d bytes were read, and More is %v", n, len(b), e.More())
		}
		e.heard = append(e.heard, b[:n]...)
	}
	for i, e := range ends {
		if !bytes.Equal(e.heard, want[i]) {
			t.Errorf("end %d heard something else", i)
		}
	}
	if full == 0 {
		t.Error("the socket was never full: this test shows less than it says")
	}
}

func TestTheEnd(t *testing.T) {
	scratch, b := make([]byte, tlsconn.Scratch), make([]byte, 100)
	s, c, _ := pair(t)
	s.Write([]byte("last"))
	s.Farewell()
	if n, err := c.Read(b, scratch); string(b[:n]) != "last" || err != nil || !c.More() {
		t.Errorf("%q, %v: want the last word first, and that there is more", b[:n], err)
	}
	if n, err := c.Read(b, scratch); n != 0 || err != nil {
		t.Errorf("%d, %v: want the end of the stream", n, err)
	}
	s, c, fds := pair(t)
	if n, err := c.Read(b, scratch); n != 0 || err != unix.EAGAIN {
		t.Errorf("%d, %v: want EAGAIN while nobody says anything", n, err)
	}
	unix.Write(fds[0], []byte("\x17\x03\x03\x00\x14not what was agreed."))
	if n, err := c.Read(b, scratch); n != 0 || err == nil || err == unix.EAGAIN {
		t.Errorf("%d, %v: want an error for a forged record", n, err)
	}
	_ = s
}

// TestHandshakesEnd: with nobody who answers, with garbage, and with a stranger.
func TestHandshakesEnd(t *testing.T) {
	config, fds := configuration(t), sockets(t)
	if _, err := tlsconn.Client(fds[0], config, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	fds = sockets(t)
	unix.Write(fds[1], []byte("-ERR unknown command\r\n"))
	if _, err := tlsconn.Client(fds[0], config, limit); !errors.As(err, new(tls.RecordHeaderError)) {
		t.Errorf("no TLS: %v", err)
	}
	fds = sockets(t)
	done := make(chan error, 1)
	go func() {
		_, err := tlsconn.Server(fds[0], config, limit)
		unix.Shutdown(fds[0], unix.SHUT_RDWR)
		done <- err
	}()
	stranger := configuration(t)
	stranger.RootCAs = config.RootCAs
	c, err := tlsconn.Client(fds[1], stranger, limit)
	if serr := <-done; err != nil || serr == nil {
		t.Fatalf("a stranger: client %v, server %v", err, serr)
	}
	if _, err := c.Read(make([]byte, 10), make([]byte, 1000)); err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		t.Errorf("the refusal of the client's certificate: %v", err)
	}
}

// memory is a socket in memory, for crypto/tls alone.
type memory struct {
	net.Conn
	in, out *bytes.Buffer
}

type nothing struct{}

func (nothing) Error() string   { return "nothing" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

func (m memory) Write(b []byte) (int, error) { return m.out.Write(b) }
func (m memory) Read(b []byte) (int, error) {
	if m.in.Len() == 0 {
		return 0, nothing{}
	}
	return m.in.Read(b)
}

// TestAllocatesNothingOfItsOwn: a message there and back costs no more allocations than those of crypto/tls.
func TestAllocatesNothingOfItsOwn(t *testing.T) {
	b, scratch := make([]byte, 5000), make([]byte, tlsconn.Scratch)
	s, c, _ := pair(t)
	ours := testing.AllocsPerRun(500, func() {
		for _, way := range [2][2]*tlsconn.Conn{{s, c}, {c, s}} {
			n, err := way[0].Write(b[:4000])
			if err = errors.Join(err, way[0].Flush()); err != nil || n != 4000 {
				t.Fatal(n, err)
			}
			if n, err := way[1].Read(b, scratch); err != nil || n != 4000 {
				t.Fatal(n, err)
			}
		}
	})
	config := configuration(t)
	near, far := net.Pipe()
	var there, back bytes.Buffer
	lower := [2]*struct{ net.Conn }{{near}, {far}}
	ends := [2]*tls.Conn{tls.Server(lower[0], config), tls.Client(lower[1], config)}
	go ends[0].Handshake()
	if err := ends[1].Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := ends[0].Handshake(); err != nil { // waits for the other one
		t.Fatal(err)
	}
	lower[0].Conn, lower[1].Conn = memory{in: &back, out: &there}, memory{in: &there, out: &back}
	theirs := testing.AllocsPerRun(500, func() {
		for _, way := range [2][2]*tls.Conn{{ends[0], ends[1]}, {ends[1], ends[0]}} {
			way[0].Write(b[:4000])
			n, err := way[1].Read(b)
			for k := 0; err == nil; n += k {
				k, err = way[1].Read(b[n:])
			}
			if n != 4000 || !errors.Is(err, nothing{}) {
				t.Fatal(n, err)
			}
		}
	})
	t.Logf("allocations a message there and back: %v, of which crypto/tls %v", ours, theirs)
	if ours > theirs || theirs > 20 {
		t.Errorf("%v allocations, and crypto/tls alone needs %v", ours, theirs)
	}
}
