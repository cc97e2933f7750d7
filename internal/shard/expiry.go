package shard

import "time"

// Keys expire at P, by a tombstone like any other write: when a command meets one whose deadline has passed (store.Tx), and
// here, because nobody may ever ask for it again. A backup that meets one asks P. So all members agree on what a key's last
// moment was, whatever their clocks say.

// clockSlack bounds how long a deadline is slept towards in one go: the wall clock that deadlines are of may be set, the
// monotonic one that timers are of does not follow.
const clockSlack = 10 * time.Second

// nextExpiry is when the next deadline passes, on the engine's clock; 0: never.
func (e *Engine) nextExpiry() int64 {
	if e.bad == FaultLazyExpiry || !e.primary() || e.serving.Load() == 0 || e.keepExpired || !e.intact() || e.room == 0 {
		return 0
	}
	at := e.st.NextAlarm()
	if at == 0 {
		return 0
	}
	wait := min(at-e.cfg.Server.Now(), clockSlack.Milliseconds())
	return e.now + max(wait, 0)*int64(time.Millisecond)
}

// expireKeys removes keys whose deadlines have passed, a batch at most, as the rings have room. The caller makes the
// records durable.
func (e *Engine) expireKeys() bool {
	e.keepExpired = e.tooFewCopies()
	n := 0
	for ; n < batch && !e.keepExpired && e.bad != FaultLazyExpiry && e.room > len(e.in.Appended) && e.st.Overdue(); n++ {
		appended, err := e.st.Expire().Commit(e.in.Appended)
		e.in.Appended = appended
		// The only error that can come is a full arena, its reserve for removals included.
		e.keepExpired = err != nil
	}
	if len(e.in.Appended) > 0 {
		e.log.Commit()
	}
	return n > 0
}
