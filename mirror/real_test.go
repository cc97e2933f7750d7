package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/fabric/tcp"
	"whale/mirror"
	"whale/pmem"
)

var testSecret = []byte("a secret of the tests of mirroring")

// providers open an endpoint on a real fabric, in a folder.
var providers = map[string]func(dir string) (fabric.Endpoint, error){
	"shm": func(dir string) (fabric.Endpoint, error) {
		return shm.Open(filepath.Join(dir, "fabric"), shm.Options{Secret: testSecret})
	},
	"tcp": func(string) (fabric.Endpoint, error) {
		return tcp.Open(tcp.Options{Listen: "127.0.0.1:0", Secret: testSecret, Domain: pmem.FileShared, PeerTimeout: time.Second})
	},
}

func endpoint(t testing.TB, provider string) fabric.Endpoint {
	t.Helper()
	e, err := providers[provider](t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// mapped is a memory with a region of size bytes, in the domain declared.
func mapped(t testing.TB, path string, size uint64, d pmem.Domain) *pmem.File {
	t.Helper()
	m, err := pmem.Map(path, mirror.HeadSize+size, pmem.Options{Domain: d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// serve exports a memory at an endpoint until the test ends or stop is called.
func serve(t testing.TB, e fabric.Endpoint, m pmem.Memory) (stop func()) {
	t.Helper()
	x, err := mirror.NewExport(e, m)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Serve(ctx) }()
	stopped := false
	stop = func() {
		if cancel(); stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// realRegion is a region with one mirror, in domain d, on a real fabric; none with strategy none.
func realRegion(t testing.TB, provider string, size uint64, d pmem.Domain, o mirror.Options) (*mirror.Region, *pmem.File) {
	t.Helper()
	dir := t.TempDir()
	var peers []string
	there := mapped(t, filepath.Join(dir, "there"), size, d)
	ep := endpoint(t, provider)
	if o.Strategy != mirror.None {
		other := endpoint(t, provider)
		serve(t, other, there)
		peers = []string{other.Addr()}
	}
	r, err := mirror.Open(context.Background(), mapped(t, filepath.Join(dir, "here"), size, pmem.ADR), ep, peers, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, there
}

// TestRealFabrics: threads of their own write beside each other, and what has committed is on the mirror.
func TestRealFabrics(t *testing.T) {
	for provider := range providers {
		for _, s := range mirrored {
			for _, d := range []pmem.Domain{pmem.FileShared, pmem.ADR} {
				t.Run(provider+", "+s.String()+", "+d.String(), func(t *testing.T) {
					const threads, size = 4, 1 << 20
					r, there := realRegion(t, provider, size, d, mirror.Options{Strategy: s, Threads: threads})
					errs := make(chan error, threads)
					for n := range threads {
						go func() { errs <- writeSome(r, uint64(n)*size/threads, size/threads) }()
					}
					for range threads {
						if err := <-errs; err != nil {
							t.Error(err)
						}
					}
					if string(region(there.Bytes())) != string(r.Bytes()) {
						t.Error("the mirror differs")
					}
				})
			}
		}
	}
}

// writeSome commits some transactions in a part of the region.
func writeSome(r *mirror.Region, from, size uint64) error {
	b := make([]byte, 5000)
	for i := range uint64(60) {
		tx, err := r.Begin()
		if err != nil {
			return err
		}
		for j := range 1 + i%7 {
			n := 1 + (i*i*j*31)%4999
			for k := range b[:n] {
				b[k] = byte(i + j + uint64(k))
			}
			tx.Write(from+(i*7919+j*104729)%(size-n), b[:n])
			if j%2 == 0 {
				tx.Barrier()
			}
			tx.Store64(from+(i*j*8)%size, i)
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// TestNoAllocation: nothing is allocated for a write, an epoch or a transaction.
func TestNoAllocation(t *testing.T) {
	for _, s := range mirror.Strategies {
		r, _ := realRegion(t, "shm", 1<<20, pmem.FileShared, mirror.Options{Strategy: s, OnLoss: mirror.GoOn})
		line := make([]byte, 64)
		if n := testing.AllocsPerRun(100, func() {
			tx, err := r.Begin()
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(20) {
				tx.Write(i*4096, line)
				tx.Store64(i*4096+64, i)
				tx.Barrier()
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations a transaction", s, n)
		}
	}
}

// slow is an endpoint whose connections complete nothing once stopped is set.
type slow struct {
	fabric.Endpoint
	stopped bool
}

func (e *slow) Dial(ctx context.Context, addr string, hello []byte) (fabric.Conn, []byte, error) {
	c, answer, err := e.Endpoint.Dial(ctx, addr, hello)
	return &slowConn{c, e}, answer, err
}

type slowConn struct {
	fabric.Conn
	e *slow
}

func (c *slowConn) Poll(dst []fabric.Completion) int {
	if c.e.stopped {
		return 0
	}
	return c.Conn.Poll(dst)
}

// TestSlowMirror: one that does not answer in time is lost, with an error that says so.
func TestSlowMirror(t *testing.T) {
	dir := t.TempDir()
	other, ep := endpoint(t, "shm"), &slow{Endpoint: endpoint(t, "shm")}
	serve(t, other, mapped(t, filepath.Join(dir, "there"), 4096, pmem.FileShared))
	r, err := mirror.Open(context.Background(), mapped(t, filepath.Join(dir, "here"), 4096, pmem.FileShared), ep, []string{other.Addr()},
		mirror.Options{Strategy: mirror.DDIODisabled, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put(t, r, 0, 1)
	ep.stopped = true
	tx := begin(t, r)
	tx.Store64(8, 2)
	err = tx.Commit()
	if !errors.Is(err, mirror.ErrLost) || !errors.Is(err, mirror.ErrTimeout) || !strings.Contains(err.Error(), other.Addr()) {
		t.Errorf("Commit: %v", err)
	}
	if r.Load64(0) != 1 || r.Load64(8) != 2 {
		t.Error("the primary has lost something")
	}
}

// TestResyncWhileWriting: on real memory, by threads that do not wait: a mirror comes back while others write, and misses nothing.
func TestResyncWhileWriting(t *testing.T) {
	const size = 8 << 20
	for _, d := range []pmem.Domain{pmem.FileShared, pmem.ADR} {
		dir := t.TempDir()
		there := mapped(t, filepath.Join(dir, "there"), size, d)
		ep, other := endpoint(t, "shm"), endpoint(t, "shm")
		stop := serve(t, other, there)
		r, err := mirror.Open(context.Background(), mapped(t, filepath.Join(dir, "here"), size, d), ep, []string{other.Addr()},
			mirror.Options{Strategy: mirror.DDIODisabled, Threads: 2, OnLoss: mirror.GoOn})
		if err != nil {
			t.Fatal(err)
		}
		var ended atomic.Bool
		var during atomic.Int64
		errs := make(chan error, 2)
		for n := range uint64(2) {
			go func() {
				for i := uint64(0); !ended.Load(); i++ {
					tx, err := r.Begin()
					if err != nil {
						errs <- err
						return
					}
					at := n*size/2 + i*7919*64%(size/2)
					tx.Write(at, bytes.Repeat([]byte{byte(i)}, 64))
					tx.Barrier()
					tx.Store64(n*size/2, i)
					if err := tx.Commit(); err != nil {
						errs <- err
						return
					}
					if r.Mirrors()[0].Filling {
						during.Add(1)
					}
				}
				errs <- nil
			}()
		}
		for range 3 {
			stop()
			for r.Mirrors()[0].Lost == nil {
				runtime.Gosched()
			}
			stop = serve(t, other, there)
			if err := r.Resync(context.Background(), true); err != nil {
				t.Fatal(err)
			}
		}
		ended.Store(true)
		for range 2 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(region(there.Bytes()), r.Bytes()) {
			t.Errorf("%v: the mirror differs", d)
		}
		t.Logf("%v: %d transactions committed while the mirror was filled", d, during.Load())
		if during.Load() == 0 {
			t.Errorf("%v: nobody wrote while the mirror was filled", d)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestResyncBesideBegin: who waits for a transaction's end is woken, whoever else waits.
func TestResyncBesideBegin(t *testing.T) {
	r, _ := realRegion(t, "shm", 4096, pmem.FileShared, mirror.Options{Strategy: mirror.DDIODisabled})
	settle := func() {
		for range 50 {
			runtime.Gosched()
		}
	}
	for range 300 {
		tx := begin(t, r)
		done := make(chan error, 3)
		for range 2 {
			go func() {
				tx, err := r.Begin()
				if err == nil {
					err = tx.Commit()
				}
				done <- err
			}()
		}
		settle() // most often all of them wait by then, those who begin before the one who copies
		go func() { done <- r.Resync(context.Background(), false) }()
		settle()
		commit(t, tx)
		for range 3 {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("somebody waits for ever")
			}
		}
	}
}
