package sim

// An event is something that happens at a moment of virtual time. There are very many of them, so it is small.
type event struct {
	at    int64
	order uint64 // among those of one moment
	about *occasion
	who   int16 // the member, way or client
	other int16 // evDial: the other member
	kind  eventKind
}

// occasion is what there is to know of rare events.
type occasion struct {
	fault *Fault // evFault, evHeal
	run   uint64 // evHeal of a crash: of the member's process; 0: it is over already
	call  *callEvent
}

type eventKind uint8

const (
	evStep   eventKind = iota // member's loop goes round
	evLand                    // something of a way lands
	evClient                  // a client goes on
	evDial                    // member and other are connected
	evFault                   // a fault strikes
	evHeal                    // and is over
	evAsk                     // a question reaches the coordinator
	evAnswer                  // and its answer the member
	evGiveUp                  // which waits no longer
	evTold                    // a member hears of a change of the record
	evWait                    // time has passed
)

// events is a binary heap, the earliest first.
type events []event

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.order < o.order }

// push and pop move a hole to where the event belongs.
func (h *events) push(e event) {
	*h = append(*h, e)
	q := *h
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(&q[up]) {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = e
}

func (h *events) pop() event {
	q := *h
	first, last := q[0], len(q)-1
	e := q[last]
	q[last] = event{}
	q = q[:last]
	*h = q
	if last == 0 {
		return first
	}
	for i := 0; ; {
		child := 2*i + 1
		if child+1 < len(q) && q[child+1].before(&q[child]) {
			child++
		}
		if child >= len(q) || e.before(&q[child]) {
			q[i] = e
			return first
		}
		q[i] = q[child]
		i = child
	}
}

func (r *run) push(e event) {
	r.order++
	e.order = r.order
	r.events.push(e)
}
