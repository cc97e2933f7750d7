package sim

// An event is something that happens at a moment of virtual time.
type event struct {
	at    int64
	order uint64 // among those of one moment
	kind  eventKind
	who   int32  // the member, way or client
	other int32  // evDial: the other member
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

func (h *events) push(e event) {
	*h = append(*h, e)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if !q[i].before(&q[up]) {
			break
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
}

func (h *events) pop() event {
	q := *h
	first, last := q[0], len(q)-1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	*h = q
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(q); child++ {
			if q[child].before(&q[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
}

func (r *run) push(e event) {
	r.order++
	e.order = r.order
	r.events.push(e)
}
