package store

import (
	"maps"

	"whale/internal/plog"
)

// model is what a store has to be: a map for each seq at which a group ends. It knows nothing of logs and indexes.
type model struct {
	states map[uint64]map[string]string // by seq of the group's end
	last   map[string]uint64            // seq of the last write to a key
	flush  uint64                       // seq of the last flush-all
	ends   []uint64                     // the seqs at which groups end, ascending; the first is 0
	recs   []plog.Rec                   // all records; recs[0] is of seq 1
}

func newModel() *model {
	return &model{states: map[uint64]map[string]string{0: {}}, last: map[string]uint64{}, ends: []uint64{0}}
}

func (m *model) end() uint64               { return m.ends[len(m.ends)-1] }
func (m *model) newest() map[string]string { return m.states[m.end()] }

// at is what a read of the key in the state of seq has to give.
func (m *model) at(seq uint64, key string) string {
	if v, ok := m.states[seq][key]; ok {
		return "=" + v
	}
	return "miss"
}

// commit takes in a group: the state after it and what names its records.
func (m *model) commit(state map[string]string, keys []string, recs []plog.Rec) {
	for i, r := range recs {
		if r.Flags.Kind() == plog.FlushAll {
			m.flush = r.Seq
		} else {
			m.last[keys[i]] = r.Seq
		}
	}
	end := m.end() + uint64(len(recs))
	m.recs = append(m.recs, recs...)
	if end > m.end() {
		m.ends = append(m.ends, end)
		m.states[end] = maps.Clone(state)
	}
}

// revealed is the seq of what made the newest state of the key what it is.
func (m *model) revealed(key string) uint64 { return max(m.last[key], m.flush) }

// cut forgets what is above seq, the end of a group.
func (m *model) cut(seq uint64) {
	for m.end() > seq {
		delete(m.states, m.end())
		m.ends = m.ends[:len(m.ends)-1]
	}
	m.recs = m.recs[:seq]
	m.flush = 0
	clear(m.last) // only revealed uses it, of what is not stable: nothing is left of that
}
