package mirror

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whale/fabric/shm"
	"whale/pmem"
)

// sharedMemory is an endpoint and a mapped memory in a folder.
func sharedMemory(t *testing.T) (*shm.Endpoint, *pmem.File) {
	t.Helper()
	dir := t.TempDir()
	e, err := shm.Open(filepath.Join(dir, "fabric"), shm.Options{Secret: []byte("a secret of the mirrors' tests")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	m, err := pmem.Map(filepath.Join(dir, "memory"), HeadSize+4096, pmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return e, m
}

// TestLossBeforeTheFirstWrite: another transaction loses the mirror after this one was let in and before it has begun. In a region
// that has to stop, it must not commit without the mirror.
func TestLossBeforeTheFirstWrite(t *testing.T) {
	there, copy := sharedMemory(t)
	x, err := NewExport(there, copy)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- x.Serve(ctx) }()
	defer func() { stop(); <-served }()
	here, m := sharedMemory(t)
	r, err := Open(ctx, m, here, []string{there.Addr()}, Options{Strategy: OrderedBuffering, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tx, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	r.lose(r.peers[0], errors.New("another transaction has seen it go"))
	tx.begin()
	tx.Store64(0, 1)
	if err := tx.Commit(); !errors.Is(err, ErrLost) {
		t.Errorf("Commit returned %v, and the mirror holds %d", err, copy.Load64(HeadSize))
	}
}

// TestShortenedFileOfAMirror: a file that was made shorter under an export is the answer to who dials, and does not end the process.
func TestShortenedFileOfAMirror(t *testing.T) {
	e, m := sharedMemory(t)
	x, err := NewExport(e, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.Name(), 0); err != nil {
		t.Fatal(err)
	}
	h := hello{kind: kindFirst, label: Label{Size: HeadSize + 4096}}
	b, err := x.Answer(h.encode())
	if err != nil {
		t.Fatal(err)
	}
	if err := new(answer).decode(b); err == nil || !strings.Contains(err.Error(), "shortened") {
		t.Errorf("the answer is %v", err)
	}
}
