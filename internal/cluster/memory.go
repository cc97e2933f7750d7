package cluster

import (
	"context"
	"slices"
	"sync"
)

// Memory is a coordinator inside the process: for clusters of one process, simulated ones and tests. The zero value has
// no record.
type Memory struct {
	mu       sync.Mutex
	now      Versioned
	watchers []*watcher
}

type watcher struct{ changed func(Versioned) }

var _ Coordinator = (*Memory)(nil)

// Read implements [Coordinator].
func (m *Memory) Read(ctx context.Context) (Versioned, error) {
	if err := ctx.Err(); err != nil {
		return Versioned{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current(), nil
}

// Swap implements [Coordinator].
func (m *Memory) Swap(ctx context.Context, revision int64, next Record) (Versioned, bool, error) {
	if err := ctx.Err(); err != nil {
		return Versioned{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.Revision != revision {
		return m.current(), false, nil
	}
	m.now = Versioned{Revision: revision + 1, Record: next.Clone()}
	for _, w := range m.watchers {
		w.changed(m.current())
	}
	return m.current(), true, nil
}

// Watch implements [Coordinator]. Changes are told inside the Swap that makes them.
func (m *Memory) Watch(changed func(Versioned)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &watcher{changed}
	m.watchers = append(m.watchers, w)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.watchers = slices.DeleteFunc(m.watchers, func(o *watcher) bool { return o == w })
	}
}

func (m *Memory) current() Versioned { return Versioned{m.now.Revision, m.now.Record.Clone()} }
