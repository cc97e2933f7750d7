//go:build linux

package mirroreval

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"whale/internal/loopback"
	"whale/mirror"
	"whale/pmem"
)

// Place is where both sides of a run are, on this machine and in this process.
type Place struct {
	Provider string // of the fabric
	Dir      string // below it is the memory of either side, in files, for the time of a run
	// Memory are two devices of device DAX that are the primary's memory and the mirror's instead, and are overwritten.
	// Empty: files below Dir.
	Memory []string
	// Domain is what the memory is declared to be, which decides what flushes cost; files that are no persistent memory survive
	// no more for that.
	Domain      pmem.Domain
	DirectWrite bool // verbs: the mirror declares that incoming writes pass its caches by
}

// memory maps that of the primary (0) or the mirror (1).
func (p *Place) memory(dir string, side int, size uint64) (*pmem.File, error) {
	path := filepath.Join(dir, [2]string{"primary", "mirror"}[side])
	if len(p.Memory) > 0 {
		path = p.Memory[side]
	}
	return pmem.Map(path, size, pmem.Options{Domain: p.Domain})
}

// OnFabric is the Runner of a provider of the fabric, in real time.
func OnFabric(p Place) Runner {
	return func(ctx context.Context, s *Subject, strategy mirror.Strategy) (took time.Duration, err error) {
		dir, err := os.MkdirTemp(p.Dir, "whale-mirror-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		var sides [2]*pmem.File
		for i := range sides {
			m, err := p.memory(dir, i, uint64(len(s.image)))
			if err != nil {
				return 0, err
			}
			defer m.Close()
			sides[i] = m
		}
		s.reset(sides[0], sides[1])
		ep, err := loopback.Open(p.Provider, filepath.Join(dir, "p"), loopback.Memory{Domain: p.Domain})
		if err != nil {
			return 0, err
		}
		defer ep.Close()
		var peers []string
		if strategy != mirror.None {
			there, err := loopback.Open(p.Provider, filepath.Join(dir, "m"), loopback.Memory{Domain: p.Domain, DirectWrite: p.DirectWrite})
			if err != nil {
				return 0, err
			}
			defer there.Close()
			x, err := mirror.NewExport(there, sides[1])
			if err != nil {
				return 0, err
			}
			serving, stop := context.WithCancel(ctx)
			served := make(chan error, 1)
			go func() { served <- x.Serve(serving) }()
			defer func() { stop(); err = errors.Join(err, <-served) }()
			peers = []string{there.Addr()}
		}
		r, err := mirror.Open(ctx, sides[0], ep, peers, mirror.Options{Strategy: strategy, Threads: s.Threads})
		if err != nil {
			return 0, err
		}
		program, err := s.Open(r)
		if err != nil {
			return 0, errors.Join(err, r.Close())
		}
		if took, err = timed(program, s.Threads, s.Transactions, s.Seed); err != nil {
			return 0, errors.Join(fmt.Errorf("after %v: %w", took, err), r.Close())
		}
		return took, s.finish(r, program, sides[0], sides[1])
	}
}
