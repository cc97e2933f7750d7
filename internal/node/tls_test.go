package node

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whale/internal/certs"
)

// certificate makes one that is good for nodes and clients of this machine.
func certificate(t *testing.T) (certs.Files, *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.Create(dir, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	f := certs.Files{Cert: filepath.Join(dir, certs.NodeCert), Key: filepath.Join(dir, certs.NodeKey), CA: filepath.Join(dir, certs.CACert)}
	c, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	c.ServerName = "127.0.0.1"
	return f, c
}

// TestClientsOverTLS: pipelines, values of several records in both directions, a client that reads late, and the end.
func TestClientsOverTLS(t *testing.T) {
	files, client := certificate(t)
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprint("threads ", threads), func(t *testing.T) {
			c := newCluster(t, 1, func(cfg *Config) { cfg.TLS, cfg.Threads = files, threads })
			n := c.start(0)
			c.awaitServing(0)
			if got, want := n.server.certificateEnds, client.Certificates[0].Leaf.NotAfter; !got.Equal(want) {
				t.Errorf("the certificate is said to end at %v; it is %v", got, want)
			}
			raw, err := net.Dial("tcp", n.Redis())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			conn := tls.Client(raw, client)
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			value := strings.Repeat("0123456789abcdef", 12<<10) // 192 KiB
			const rounds = 20
			go func() { // the replies are read while this is still being written, or they would wait for each other
				for i := range rounds {
					fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%s\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*2\r\n$4\r\nECHO\r\n$2\r\n%02d\r\n", len(value), value, i)
				}
			}()
			in := bufio.NewReader(conn)
			for i := range rounds {
				want := fmt.Sprintf("+OK\r\n$%d\r\n%s\r\n$2\r\n%02d\r\n", len(value), value, i)
				got := make([]byte, len(want))
				if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
					t.Fatalf("round %d: %v, %d bytes that begin with %q", i, err, len(got), got[:20])
				}
			}
			io.WriteString(conn, "QUIT\r\n")
			if rest, err := io.ReadAll(in); err != nil || string(rest) != "+OK\r\n" {
				t.Errorf("after QUIT: %q, %v: want an end that TLS knows of", rest, err)
			}
		})
	}
}

// TestStrangersAtTLS: without a certificate of the cluster's, or without TLS, nobody is served, and the others go on.
func TestStrangersAtTLS(t *testing.T) {
	files, good := certificate(t)
	_, stranger := certificate(t)
	c := newCluster(t, 1, func(cfg *Config) { cfg.TLS = files })
	n := c.start(0)
	c.awaitServing(0)
	ping := func(wrap func(net.Conn) net.Conn) string {
		raw, err := net.Dial("tcp", n.Redis())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(20 * time.Second))
		conn := wrap(raw)
		io.WriteString(conn, "PING\r\n")
		b := make([]byte, 100)
		k, _ := conn.Read(b)
		return string(b[:k])
	}
	loose := stranger.Clone()
	loose.InsecureSkipVerify = true
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"no TLS":                func(c net.Conn) net.Conn { return c },
		"another authority":     func(c net.Conn) net.Conn { return tls.Client(c, loose) },
		"without a certificate": func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) },
	} {
		if got := ping(wrap); strings.Contains(got, "PONG") {
			t.Errorf("%s: was served: %q", name, got)
		}
		if got := ping(func(c net.Conn) net.Conn { return tls.Client(c, good) }); got != "+PONG\r\n" {
			t.Errorf("beside %s: %q", name, got)
		}
	}
}

// TestTLSInSmallPieces: bytes of a record that come one by one, and many commands in one record.
func TestTLSInSmallPieces(t *testing.T) {
	files, client := certificate(t)
	c := newCluster(t, 1, func(cfg *Config) { cfg.TLS = files })
	n := c.start(0)
	c.awaitServing(0)
	raw, err := net.Dial("tcp", n.Redis())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	conn := tls.Client(dribble{raw}, client)
	const count = 500
	io.WriteString(conn, strings.Repeat("PING\r\n", count))
	got := make([]byte, count*len("+PONG\r\n"))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("+PONG\r\n"), count)) {
		t.Fatalf("%v, %q...", err, got[:30])
	}
}

// dribble writes in pieces of a few bytes.
type dribble struct{ net.Conn }

func (d dribble) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var k int
		k, err = d.Conn.Write(b[:min(len(b), 7)])
		n += k
		b = b[k:]
	}
	return n, err
}
