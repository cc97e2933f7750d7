package mirror

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"whale/fabric"
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

// mirroredRegion is a region with one mirror and two threads.
func mirroredRegion(t *testing.T, loss Loss) (r *Region, copy *pmem.File) {
	t.Helper()
	there, copy := sharedMemory(t)
	x, err := NewExport(there, copy)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- x.Serve(ctx) }()
	t.Cleanup(func() { stop(); <-served })
	here, m := sharedMemory(t)
	r, err = Open(ctx, m, here, []string{there.Addr()}, Options{Strategy: OrderedBuffering, Threads: 2, OnLoss: loss})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, copy
}

var errSeen = errors.New("another transaction has seen it go")

// TestLossBeforeTheFirstWrite: another transaction loses the mirror after this one was let in and before it has begun. In a region
// that has to stop, it must not commit without the mirror.
func TestLossBeforeTheFirstWrite(t *testing.T) {
	r, copy := mirroredRegion(t, Stop)
	tx, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	r.lose(r.peers[0], errSeen)
	tx.begin()
	tx.Store64(0, 1)
	if err := tx.Commit(); !errors.Is(err, ErrLost) {
		t.Errorf("Commit returned %v, and the mirror holds %d", err, copy.Load64(HeadSize))
	}
}

// TestNothingFollowsALoss: another transaction has lost the mirror and ended, of which the mirror may hold a part. What is written then
// may build on that one, so it must not reach the mirror, although the connection of this one still works.
func TestNothingFollowsALoss(t *testing.T) {
	for _, loss := range []Loss{Stop, GoOn} {
		r, copy := mirroredRegion(t, loss)
		tx, err := r.Begin()
		if err != nil {
			t.Fatal(err)
		}
		tx.Store64(0, 1)
		tx.Barrier()
		r.lose(r.peers[0], errSeen)
		tx.Store64(8, 2)
		tx.Write(16, []byte("12345678"))
		err = tx.Commit()
		if word, text := copy.Load64(HeadSize+8), copy.Load64(HeadSize+16); word != 0 || text != 0 {
			t.Errorf("loss %d: the mirror holds %d and %#x, written after the loss", loss, word, text)
		}
		if loss == Stop && !errors.Is(err, ErrLost) {
			t.Errorf("Commit returned %v, without the mirror", err)
		}
		if loss == GoOn && (err != nil || r.Mirrors()[0].Dirty != 4096) {
			t.Errorf("Commit returned %v, and %d bytes of the mirror are dirty", err, r.Mirrors()[0].Dirty)
		}
	}
}

// TestGenerationsUsedUp: a region that goes on without mirrors cannot do so without another generation: it stops, and no transaction that
// is under way commits either.
func TestGenerationsUsedUp(t *testing.T) {
	r, _ := mirroredRegion(t, GoOn)
	var under [2]*Tx
	for i := range under {
		tx, err := r.Begin()
		if err != nil {
			t.Fatal(err)
		}
		tx.Store64(uint64(8*i), 1)
		under[i] = tx
	}
	r.label.State.Generation = maxGeneration
	if err := r.lose(r.peers[0], errSeen); !errors.Is(err, ErrLost) {
		t.Errorf("lose returned %v", err)
	}
	if err := r.lose(r.peers[0], errSeen); !errors.Is(err, ErrLost) {
		t.Errorf("lose returned %v to the second one who found out", err)
	}
	for _, tx := range under {
		tx.Store64(64, 2)
		if err := tx.Commit(); !errors.Is(err, ErrLost) {
			t.Errorf("Commit returned %v, without a mirror and without a new generation", err)
		}
	}
	if _, err := r.Begin(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "generations") {
		t.Errorf("Begin returned %v", err)
	}
}

// TestTextOfAMirror: nothing of a refusal reaches a terminal that is not text.
func TestTextOfAMirror(t *testing.T) {
	if got := printable([]byte("a\x1b[2J\u009b2J\u202e\xffé ")); got != "a?[2J?2J??é " {
		t.Errorf("%q", got)
	}
}

// flaky is an endpoint whose Accept fails, and counts that.
type flaky struct {
	*shm.Endpoint
	failures atomic.Int64
}

func (f *flaky) Accept(context.Context, func([]byte) ([]byte, error)) (fabric.Conn, error) {
	f.failures.Add(1)
	return nil, errSeen
}

// TestAcceptFails: an endpoint that cannot accept for a while does not keep a processor busy.
func TestAcceptFails(t *testing.T) {
	e, m := sharedMemory(t)
	f := &flaky{Endpoint: e}
	x, err := NewExport(f, m)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	x.Report = func(err error) { told = append(told, err.Error()) }
	ctx, stop := context.WithTimeout(context.Background(), 20*respite)
	defer stop()
	if err := x.Serve(ctx); err != nil {
		t.Error(err)
	}
	if n := f.failures.Load(); n < 2 || n > 21 {
		t.Errorf("it was tried %d times in %v, want about one in %v", n, 20*respite, respite)
	}
	if len(told) != 1 || told[0] == "" {
		t.Errorf("it told of %q, want one failure", told)
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
	var told error
	x.Report = func(err error) { told = err }
	h := hello{kind: kindFirst, label: Label{Size: HeadSize + 4096}}
	b, err := x.Answer(h.encode())
	if err != nil {
		t.Fatal(err)
	}
	if told == nil || !strings.Contains(told.Error(), "shortened") {
		t.Errorf("the mirror's side was told %v", told)
	}
	if err := new(answer).decode(b); err == nil || !strings.Contains(err.Error(), "shortened") {
		t.Errorf("the answer is %v", err)
	}
}
