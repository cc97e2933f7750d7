package tcp

import (
	"crypto/tls"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/internal/certs"
	"whale/pmem"
)

func TestConformance(t *testing.T) {
	// The suite's two sides spin. While every processor spins, Go looks for what has come over the network every 10 ms.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.NumCPU())))
	fabrictest.Run(t, func(t testing.TB) *fabrictest.Pair { return newPair(t, Options{}) })
}

// TestConformanceTLS: what TLS changes is the way to the socket, and setting up and ending connections.
func TestConformanceTLS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.NumCPU())))
	o := Options{TLS: certificate(t)}
	names := []string{"write", "read", "batches", "messages", "hello and answer", "a refused connection", "random traffic against a model",
		"Close of a connection", "Close of the endpoint", "the peer disappears", "Revoke with operations under way", "a full queue", "no ring is lost"}
	for name, msg := range fabrictest.Failures(t, func(t testing.TB) *fabrictest.Pair { return newPair(t, o) }, names...) {
		t.Errorf("%s: %s", name, msg)
	}
}

// TestTLSOnOneSideOnly: neither side gets on with the other, and both are told.
func TestTLSOnOneSideOnly(t *testing.T) {
	plain, secure := open(t, Options{}), open(t, Options{TLS: certificate(t)})
	for _, pair := range [][2]*Endpoint{{plain, secure}, {secure, plain}} {
		if _, _, _, err := fabrictest.DialAccept(pair[0], pair[1], nil, func([]byte) ([]byte, error) { return nil, nil }); err == nil {
			t.Error("connected")
		}
	}
}

// certificate is one that is good for both sides.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.Create(dir, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	c, err := certs.Files{Cert: filepath.Join(dir, certs.NodeCert), Key: filepath.Join(dir, certs.NodeKey), CA: filepath.Join(dir, certs.CACert)}.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newPair is two endpoints in this process, connected over the loopback interface.
func newPair(t testing.TB, o Options) *fabrictest.Pair {
	p := &fabrictest.Pair{A: open(t, o), B: open(t, o)}
	p.NewMemory = func(t testing.TB, _ fabric.Endpoint, size uint64) pmem.Memory { return mapped(t, size) }
	p.Connect = func(hello []byte, answer func([]byte) ([]byte, error)) (a, b fabric.Conn, reply []byte, err error) {
		return fabrictest.DialAccept(p.A, p.B, hello, answer)
	}
	var err error
	if p.AB, p.BA, _, err = p.Connect(nil, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	p.Kill = func() { // as the kernel does it for a process that ends
		b := p.BA.(*conn)
		b.out.Close()
		b.target.sock.Close()
	}
	return p
}

var testSecret = []byte("the secret of these tests, 32 byt")

// open is an endpoint that is closed when the test ends.
func open(t testing.TB, o Options) *Endpoint {
	t.Helper()
	o.Listen, o.Domain = "127.0.0.1:0", pmem.FileShared
	if o.Secret == nil {
		o.Secret = testSecret
	}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

var files int

// mapped is a new file, mapped until the test has ended.
func mapped(t testing.TB, size uint64) *pmem.File {
	t.Helper()
	files++
	f, err := pmem.Map(filepath.Join(t.TempDir(), "memory."+strconv.Itoa(files)), size, pmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func register(t testing.TB, e *Endpoint, m pmem.Memory, rights fabric.Rights) fabric.Key {
	t.Helper()
	key, err := e.Register(m, 0, uint64(len(m.Bytes())), rights)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
