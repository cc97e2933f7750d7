package timing

// step says what happens to a work request.
type step uint8

const (
	rung    step = iota // the card has the doorbell of this one and those behind
	granted             // what waited for the answers to earlier ones may go
	arrived             // it reaches the remote card
	placed              // it takes effect in the remote memory
)

type event struct {
	at   ps
	seq  uint64 // of those at one time, first scheduled, first to happen
	step step
	work *work
}

func (e *event) before(f *event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// events is a heap, the next event first.
type events struct {
	heap []event
	seq  uint64
}

func (q *events) next() ps {
	if len(q.heap) == 0 {
		return never
	}
	return q.heap[0].at
}

func (q *events) push(at ps, s step, w *work) {
	q.seq++
	h := append(q.heap, event{at, q.seq, s, w})
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	q.heap = h
}

func (q *events) pop() event {
	h := q.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			break
		}
		if right := down + 1; right < last && h[right].before(&h[down]) {
			down = right
		}
		if !h[down].before(&h[i]) {
			break
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
	q.heap = h
	return top
}
