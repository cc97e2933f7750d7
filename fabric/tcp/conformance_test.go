package tcp

import (
	"path/filepath"
	"strconv"
	"testing"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/pmem"
)

func TestConformance(t *testing.T) {
	fabrictest.Run(t, func(t testing.TB) *fabrictest.Pair { return newPair(t, Options{}) })
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
