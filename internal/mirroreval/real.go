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

// OnFabric is the Runner of a provider of the fabric, in real time, both sides on this machine and in this process. dir is
// the folder below which the memory of either side is kept, in files, for the time of a run. domain is what they are declared to be,
// which decides what flushes cost; files that are no persistent memory survive no more for that.
func OnFabric(provider, dir string, domain pmem.Domain) Runner {
	return func(ctx context.Context, s *Subject, strategy mirror.Strategy) (took time.Duration, err error) {
		dir, err := os.MkdirTemp(dir, "whale-mirror-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		var sides [2]*pmem.File
		for i, name := range []string{"primary", "mirror"} {
			m, err := pmem.Map(filepath.Join(dir, name), uint64(len(s.image)), pmem.Options{Domain: domain})
			if err != nil {
				return 0, err
			}
			defer m.Close()
			sides[i] = m
		}
		s.reset(sides[0], sides[1])
		ep, err := loopback.Open(provider, filepath.Join(dir, "p"), domain)
		if err != nil {
			return 0, err
		}
		defer ep.Close()
		var peers []string
		if strategy != mirror.None {
			there, err := loopback.Open(provider, filepath.Join(dir, "m"), domain)
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
