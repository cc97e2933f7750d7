package fsload_test

import (
	"context"
	"sync"
	"testing"

	"whale/mirror"
	"whale/pmem"
	"whale/workload"
	"whale/workload/epochs"
	"whale/workload/whisper/app"
	"whale/workload/whisper/crashtest"
	"whale/workload/whisper/fsload"
)

var servers = []fsload.Server{fsload.NFS, fsload.Exim, fsload.MySQL}

func mustNew(t testing.TB, s fsload.Server, p fsload.Params) *fsload.Load {
	t.Helper()
	w, err := fsload.New(s, p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestCrash(t *testing.T) {
	for _, s := range servers {
		w := mustNew(t, s, fsload.Params{Threads: 1, Files: 3})
		t.Run(w.Name(), func(t *testing.T) { crashtest.Run(t, w, crashtest.Options{Runs: 1, Transactions: 30}) })
	}
}

func prepared(t testing.TB, w workload.Workload, o mirror.Options) (workload.Program, *pmem.HeapMemory) {
	t.Helper()
	m := pmem.HeapOf(mirror.HeadSize+w.Size()&^63, pmem.ADR)
	r, err := mirror.Open(context.Background(), m, nil, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Prepare(r); err != nil {
		t.Fatal(err)
	}
	p, err := w.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return p, m
}

// TestThreads: threads at once, each in its directory, for long enough that files are made and removed again and again.
func TestThreads(t *testing.T) {
	for _, s := range servers {
		w := mustNew(t, s, fsload.Params{Threads: 4, Files: 6})
		p, _ := prepared(t, w, mirror.Options{Threads: 4})
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				if err := p.Run(workload.NewThread(i, 1, workload.Real{}), 800); err != nil {
					t.Errorf("%s: %v", w.Name(), err)
				}
			})
		}
		all.Wait()
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", w.Name(), err)
		}
	}
}

// TestFindsWhatIsWrong: of the words that are changed anywhere, all that users could see are found.
func TestFindsWhatIsWrong(t *testing.T) {
	for _, s := range servers {
		w := mustNew(t, s, fsload.Params{Threads: 1, Files: 3})
		p, m := prepared(t, w, mirror.Options{})
		if err := p.Run(workload.NewThread(0, 1, app.Still{}), 60); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		content := p.(app.Program).Content()
		found, unseen := 0, 0
		for off := mirror.HeadSize; off < len(m.Bytes()); off += 8 {
			if m.Bytes()[off] == 0 || off%104 > 8 && off%4096 > 512 { // of what is alike, some
				continue
			}
			m.Bytes()[off] ^= 1
			if p.Check() != nil {
				found++
			} else if p.(app.Program).Content() != content {
				unseen++ // the count of an inode's changes, which nothing else tells
			}
			m.Bytes()[off] ^= 1
		}
		if t.Logf("%s: %d, %d", w.Name(), found, unseen); found < 50 || unseen > 8 {
			t.Errorf("%s: %d changed words were found, %d changed a file unseen", w.Name(), found, unseen)
		}
	}
}

// TestShape: a block of data is an epoch of 64 lines and a few more, between epochs of one or two.
func TestShape(t *testing.T) {
	for _, s := range servers {
		rec := epochs.NewRecorder()
		p, _ := prepared(t, mustNew(t, s, fsload.Params{Threads: 1}), mirror.Options{Observer: rec})
		rec.Reset()
		if err := p.Run(workload.NewThread(0, 1, app.Still{}), 2000); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		sum := rec.Summary()
		if t.Logf("%+v", sum); sum.P50 < 2 || sum.P50 > 8 || sum.Width99 > 80 {
			t.Errorf("server %d has not the shape of the original", s)
		}
	}
}

func TestParams(t *testing.T) {
	for _, p := range []fsload.Params{{Threads: 17}, {Files: -1}} {
		if _, err := fsload.New(fsload.NFS, p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
