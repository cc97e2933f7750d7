package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"whale/mirror"
	"whale/pmem"
)

// sides are a primary's plain file and its mirror's, and what was copied when the region was opened last.
type sides struct {
	dir         string
	here, there *pmem.File
	copied      uint64
}

func newSides(t *testing.T, d pmem.Domain) *sides {
	dir := t.TempDir()
	return &sides{dir: dir, here: mapped(t, filepath.Join(dir, "here"), 64<<10, d), there: mapped(t, filepath.Join(dir, "there"), 64<<10, d)}
}

// open opens the region with its mirror; end ends both processes.
func (s *sides) open(t *testing.T, o mirror.Options) (r *mirror.Region, end func(), err error) {
	other, ep := endpoint(t, "shm"), endpoint(t, "shm")
	stop := serve(t, other, s.there)
	s.copied = 0
	o.Strategy, o.Progress = mirror.OrderedBuffering, func(_ string, done, _ uint64) { s.copied = done }
	r, err = mirror.Open(context.Background(), s.here, ep, []string{other.Addr()}, o)
	return r, func() { ep.Close(); stop(); other.Close() }, err
}

// restarted makes a copy one of an earlier boot, which has lost the word at off.
func restarted(m *pmem.File, off uint64) {
	m.Bytes()[72] ^= 1
	m.Store64(mirror.HeadSize+off, 0)
}

// TestRestartedMachine: a plain file does not survive its machine for certain. A mirror's is filled anew, although the label says that it is
// closed orderly; a primary's is not taken for better than its mirror's, and nothing is changed.
func TestRestartedMachine(t *testing.T) {
	for _, c := range []struct {
		name    string
		domain  pmem.Domain
		orderly bool
		lose    func(s *sides) // what the restart did
		options mirror.Options
		refused bool
		copied  uint64
		want    uint64 // the word afterwards, on both sides
	}{
		{name: "nothing", orderly: true, lose: func(*sides) {}, want: 1},
		{name: "the mirror's", orderly: true, lose: func(s *sides) { restarted(s.there, 8) }, copied: 68 << 10, want: 1},
		{name: "the mirror's, which is persistent memory", domain: pmem.ADR, orderly: true, lose: func(s *sides) { s.there.Bytes()[72] ^= 1 }, want: 1},
		{name: "the primary's", orderly: true, lose: func(s *sides) { restarted(s.here, 8) }, refused: true},
		{name: "the primary's, which is told to be good", orderly: true, options: mirror.Options{Trust: true},
			lose: func(s *sides) { restarted(s.here, 8) }, copied: 68 << 10, want: 0},
		{name: "the primary's, and nothing was lost", orderly: true, lose: func(s *sides) { s.here.Bytes()[72] ^= 1 }, want: 1},
		{name: "the primary's, in the middle", lose: func(s *sides) { restarted(s.here, 8) }, refused: true},
		{name: "the primary's, in the middle, going on", options: mirror.Options{OnLoss: mirror.GoOn}, lose: func(s *sides) { restarted(s.here, 8) }, refused: true},
		{name: "the primary's, in the middle, and nothing was lost", lose: func(s *sides) { s.here.Bytes()[72] ^= 1 }, copied: 68 << 10, want: 1},
		{name: "both", orderly: true, lose: func(s *sides) { restarted(s.here, 8); restarted(s.there, 16) }, refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSides(t, c.domain)
			r, end, err := s.open(t, mirror.Options{})
			if err != nil {
				t.Fatal(err)
			}
			put(t, r, 8, 1)
			put(t, r, 16, 1)
			if c.orderly {
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
			end()
			c.lose(s)
			here, there := bytes.Clone(s.here.Bytes()), bytes.Clone(s.there.Bytes())
			r, end, err = s.open(t, c.options)
			defer end()
			if c.refused {
				if !errors.Is(err, mirror.ErrRestarted) {
					t.Fatalf("opened: %v", err)
				}
				if !bytes.Equal(here, s.here.Bytes()) || !bytes.Equal(there, s.there.Bytes()) {
					t.Fatal("a copy was changed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.copied != c.copied {
				t.Errorf("%d bytes were copied, want %d", s.copied, c.copied)
			}
			if got := r.Load64(8); got != c.want {
				t.Errorf("the word is %d, want %d", got, c.want)
			}
			if !bytes.Equal(region(s.here.Bytes()), region(s.there.Bytes())) {
				t.Error("the copies differ")
			}
			// From here on it is a copy of this boot.
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if boot := s.here.Bytes()[72:88]; c.domain != pmem.ADR && !bytes.Equal(boot, s.there.Bytes()[72:88]) || bytes.Equal(boot, make([]byte, 16)) {
				t.Errorf("the boot in the labels is %x and %x", boot, s.there.Bytes()[72:88])
			}
		})
	}
}

// TestRestartedMachineComesBack: a mirror in a plain file whose machine was started again gets everything.
func TestRestartedMachineComesBack(t *testing.T) {
	for _, again := range []bool{false, true} {
		s := newSides(t, pmem.FileShared)
		r, _, err := func() (*mirror.Region, func(), error) {
			other, ep := endpoint(t, "shm"), endpoint(t, "shm")
			stop := serve(t, other, s.there)
			r, err := mirror.Open(context.Background(), s.here, ep, []string{other.Addr()}, mirror.Options{Strategy: mirror.RemoteCommit, OnLoss: mirror.GoOn,
				Progress: func(_ string, done, _ uint64) { s.copied = done }})
			if err != nil {
				return nil, nil, err
			}
			put(t, r, 8, 1)
			stop()
			put(t, r, 16, 2)
			if again {
				restarted(s.there, 8)
			}
			serve(t, other, s.there)
			return r, stop, r.Resync(context.Background(), false)
		}()
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]uint64{false: 4096, true: 68 << 10}[again]; s.copied != want {
			t.Errorf("started again: %v, %d bytes were copied, want %d", again, s.copied, want)
		}
		if !bytes.Equal(region(s.here.Bytes()), region(s.there.Bytes())) {
			t.Errorf("started again: %v, the copies differ", again)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
