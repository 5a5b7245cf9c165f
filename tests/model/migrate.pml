/* SPDX-License-Identifier: MIT */
/*
 * The switch and the recovery of docs/page-link.md, for spin.
 *
 * Two sides, two connections, a guest that writes where it runs, and a network that may lose both
 * connections at any time, LOSSES times. What is proven, for every order of events:
 *
 *	- the machine never runs on both sides, and on the outgoing side never after GO;
 *	- what the guest reads is what it wrote last, before and after the due set has come;
 *	- a page's contents are written at most once after the switch, and never once it is present;
 *	- COMPLETE means that every page is there;
 *	- nobody waits for ever: every run ends with the machine running on one side, whole, unless the
 *	  network stays away (then it is lost, and both sides have kept what they had).
 *
 * DUE stands for all DUE frames and DUE_END, RECEIVED for all RECEIVED frames and RECEIVED_END; a
 * page's contents are its version number. Messages that were sent before a loss may still arrive, up
 * to any point: a receiver reads on or notices, as it likes. -DBREAK_... puts a mistake in, to see that
 * the model finds it.
 */
#define PAGES_N 2
#define ALL     3 /* the set of all pages */
#define NOTHING 9 /* contents of a page that never came */

/* Mistakes that must be found, each by its name: spin -DBREAK_... */
#ifdef BREAK_GO_ON        /* the outgoing side runs again although GO may have arrived */
#define COMMITS false
#else
#define COMMITS true
#endif
#ifdef BREAK_STALE        /* the due set is not believed */
#define DUE_IN(set) 0
#else
#define DUE_IN(set) set
#endif
#ifdef BREAK_TWICE        /* what was sent is not remembered */
#define SENT_NOW(p) sent
#else
#define SENT_NOW(p) (sent | BIT(p))
#endif
#ifdef BREAK_FORGET       /* a loss between READY and GO is taken for the end */
#define KEEPS false
#else
#define KEEPS true
#endif
#ifdef BREAK_RECEIVED     /* what was on its way when the connection was lost counts as received */
#define TRULY(set) (sent | set)
#else
#define TRULY(set) set
#endif

#ifndef LOSSES
#define LOSSES 2
#endif
#ifndef WRITES
#define WRITES 2
#endif

mtype = { PAGES, CLEAN, ROUND, ACK, STATE, READY, GO, RUNNING, DUE, REQUEST, RECEIVED, COMPLETE,
	  BYE, CANCEL }
mtype = { ABSENT, PENDING, PRESENT }
mtype = { ROUNDS, WAIT_READY, FOLLOWING, LOST, DONE, FAILED, WAIT_STATE, LOADING, WAIT_GO }

/* The connections of one meeting: type, page or set, contents or flag. */
chan main_out = [4] of { mtype, byte, byte };   /* from the outgoing side */
chan main_in = [4] of { mtype, byte, byte };    /* from the incoming side */
chan demand_out = [2] of { mtype, byte, byte };
chan demand_in = [2] of { mtype, byte, byte };
bool up = true;                                 /* the network; */
bool out_met = true, in_met = true;             /* and whether a side still believes in it */
byte losses;

/* The machine. */
bool out_runs = true, in_runs, committed;
byte version[PAGES_N];                          /* what the guest wrote last */
byte writes;

/* The outgoing side. */
mtype out_phase = ROUNDS;
byte dirty = ALL;                               /* written since it was collected */
byte due, sent;
bool cancel;

/* The incoming side. */
mtype in_phase = WAIT_STATE;
mtype page[PAGES_N] = ABSENT;
byte have[PAGES_N] = NOTHING;
bool had_due, had_go;
byte in_due;
bool wanted[PAGES_N];                           /* to be asked for, someone waits */
bool asked[PAGES_N];
bool hurried[PAGES_N];                          /* asked for in the background, then waited for */

#define BIT(p)     (1 << (p))
#define HAS(set, p) (((set) >> (p)) & 1)
/* A send that the network swallows, too, once it is gone. */
#define SEND(to, what, a, b) if :: up && nfull(to) -> to!what(a, b) :: !up -> skip fi

inline drop_all()
{
	do
	:: main_out?_, _, _
	:: main_in?_, _, _
	:: demand_out?_, _, _
	:: demand_in?_, _, _
	:: empty(main_out) && empty(main_in) && empty(demand_out) && empty(demand_in) -> break
	od
}

/* Answers a request for page p on a connection. */
inline answer(to, p)
{
	if
	:: HAS(sent, p) -> skip /* it is on its way on the other connection */
	:: else ->
		if
		:: HAS(due, p) ->
			sent = SENT_NOW(p);
			SEND(to, PAGES, p, version[p])
		:: else -> SEND(to, CLEAN, p, 0)
		fi
	fi
}

inline out_lost()
{
	atomic {
		out_met = false;
		if
		:: committed -> out_phase = LOST
		:: else -> out_phase = FAILED; out_runs = true; assert(!in_runs)
		fi
	}
}

active proctype Outgoing()
{
	byte p, b;
	byte round;

	/* Rounds: each collects, sends, and waits until all of it has arrived. */
	do
	:: out_phase == ROUNDS && round < 2 && !cancel ->
		atomic { b = dirty; dirty = 0; p = 0 }
		do
		:: p < PAGES_N && HAS(b, p) -> SEND(main_out, PAGES, p, version[p]); p++
		:: p < PAGES_N && !HAS(b, p) -> p++
		:: p == PAGES_N -> break
		od;
		SEND(main_out, ROUND, 0, 0);
		if
		:: main_in?ACK(_, _) -> round++
		:: !up -> out_lost(); goto lost
		fi
	:: out_phase == ROUNDS && round > 0 && !cancel -> break
	:: out_phase == ROUNDS && cancel -> SEND(main_out, CANCEL, 0, 0); out_phase = FAILED; goto failed
	od;

	/* The switch. */
	out_runs = false;
	SEND(main_out, STATE, 0, 0);
	due = dirty;
	out_phase = WAIT_READY;
	do
	:: main_in?READY(_, _) -> break
	:: demand_in?REQUEST(p, _) -> answer(demand_out, p)
	:: main_in?REQUEST(p, _) -> answer(main_out, p)
	:: cancel -> atomic { SEND(main_out, CANCEL, 0, 0); out_phase = FAILED; out_runs = true; goto failed }
	:: !up -> out_lost(); goto lost
	od;
	/* The point of no return: from here on it counts as sent, whether it arrives or not. */
	atomic { committed = COMMITS; SEND(main_out, GO, 0, 0); out_phase = FOLLOWING }
	SEND(main_out, DUE, due, 0);

following:
	do
	:: demand_in?REQUEST(p, _) -> answer(demand_out, p)
	:: main_in?REQUEST(p, _) -> answer(main_out, p)
	:: main_in?RUNNING(_, _) -> skip
	:: main_in?COMPLETE(_, _) -> SEND(main_out, BYE, 0, 0); out_phase = DONE; goto end_done
	:: !up -> out_lost(); goto lost
	od;

lost:
	if
	:: out_phase == FAILED -> goto failed
	:: else -> skip
	fi;
	/* A recovery: the other side says what it has. */
end_lost:
	do
	:: out_met && nempty(main_in) ->
		if
		:: main_in?RECEIVED(b, _) ->
			sent = TRULY(b);
			due = due & ~b;
			out_phase = FOLLOWING;
			SEND(main_out, GO, 0, 0);
			SEND(main_out, DUE, due, 0);
			goto following
		:: main_in?COMPLETE(_, _) -> assert(false)
		fi
	:: out_met && !up -> out_met = false
	od;

failed:
	out_phase = FAILED;
	assert(!in_runs && !committed);
	out_runs = true;
end_done:
	skip
}

/* Contents for page p arrive. A request made twice may be answered by CLEAN twice, never by contents. */
inline arrive(p, contents)
{
	atomic {
		if
		:: page[p] == PENDING && asked[p] ->
			have[p] = contents;
			page[p] = PRESENT; asked[p] = false; wanted[p] = false; hurried[p] = false;
			assert(out_runs || have[p] == version[p])
		:: else -> assert(false) /* nobody asked, or it came twice */
		fi
	}
}

inline in_lost()
{
	atomic {
		in_met = false;
		if
		:: had_go -> in_phase = LOST
		:: in_phase == WAIT_GO && KEEPS -> in_phase = LOST /* GO may be under way: it must not be forgotten */
		:: else -> in_phase = FAILED
		fi
	}
}

/* The due set: what is not due and not asked for is there now. */
inline take_due(set)
{
	d_step {
		p = 0;
		do
		:: p < PAGES_N ->
			if
			:: page[p] == ABSENT && !HAS(set, p) ->
				assert(out_runs || have[p] == version[p]);
				page[p] = PRESENT; wanted[p] = false
			:: else -> skip
			fi;
			p++
		:: p == PAGES_N -> break
		od;
		in_due = set; had_due = true; p = 0
	}
}

/* Asks for what someone waits for, and once the due set is known for the rest. */
inline ask()
{
	d_step { p = 0; do :: p < PAGES_N && !(page[p] != PRESENT && !asked[p] && (wanted[p] || had_due)) -> p++ :: else -> break od }
	if
	:: p < PAGES_N && wanted[p] -> atomic { page[p] = PENDING; asked[p] = true; hurried[p] = true; SEND(demand_in, REQUEST, p, 0) }
	:: p < PAGES_N && !wanted[p] -> atomic { page[p] = PENDING; asked[p] = true; SEND(main_in, REQUEST, p, 0) }
	:: else -> skip
	fi
}

#define TO_ASK ((page[0] != PRESENT && !asked[0] && (wanted[0] || had_due)) || \
		(page[1] != PRESENT && !asked[1] && (wanted[1] || had_due)))
/* Touched when it was under way on the main connection. */
#define HURRY(p) (had_due && asked[p] && wanted[p] && !hurried[p])
#define WHOLE  (page[0] == PRESENT && page[1] == PRESENT)

active proctype Incoming()
{
	byte p, b, c;

	do
	:: main_out?PAGES(p, c) -> have[p] = c
	:: main_out?ROUND(_, _) -> SEND(main_in, ACK, 0, 0)
	:: main_out?CANCEL(_, _) -> goto failed
	:: main_out?STATE(_, _) -> break
	:: !up -> goto failed
	od;
	in_phase = LOADING; /* touches pages */
	if
	:: wanted[0] = true
	:: skip
	fi;
	do
	:: in_phase == LOADING && !(wanted[0] && page[0] != PRESENT) ->
		SEND(main_in, READY, 0, 0);
		in_phase = WAIT_GO
	:: TO_ASK && up && nfull(main_in) && nfull(demand_in) -> ask()
	:: demand_out?PAGES(p, c) -> arrive(p, c)
	:: main_out?PAGES(p, c) -> arrive(p, c)
	:: demand_out?CLEAN(p, _) -> assert(!had_due); arrive(p, have[p])
	:: main_out?CLEAN(p, _) -> assert(!had_due); arrive(p, have[p])
	:: main_out?CANCEL(_, _) -> goto failed
	:: main_out?GO(_, _) -> break
	:: !up -> in_lost(); goto lost
	od;
running:
	atomic { had_go = true; assert(!out_runs); in_runs = true; in_phase = FOLLOWING }
	SEND(main_in, RUNNING, 0, 0);
following:
	do
	:: TO_ASK && up && nfull(main_in) && nfull(demand_in) -> ask()
	:: HURRY(0) && up && nfull(demand_in) -> hurried[0] = true; SEND(demand_in, REQUEST, 0, 0)
	:: HURRY(1) && up && nfull(demand_in) -> hurried[1] = true; SEND(demand_in, REQUEST, 1, 0)
	:: demand_out?PAGES(p, c) -> arrive(p, c)
	:: main_out?PAGES(p, c) -> arrive(p, c)
	:: demand_out?CLEAN(p, _) -> arrive(p, have[p])
	:: main_out?CLEAN(p, _) -> arrive(p, have[p])
	:: main_out?DUE(b, _) -> take_due(DUE_IN(b))
	:: WHOLE && had_due -> SEND(main_in, COMPLETE, 0, 0); break
	:: !up -> in_lost(); goto lost
	od;
	if
	:: main_out?BYE(_, _) -> in_phase = DONE
	:: main_out?DUE(_, _) -> skip
	:: !up -> in_phase = DONE /* it is whole: nothing more is wanted of the other side */
	fi;
	goto end_done;

lost:
	if
	:: in_phase == FAILED -> goto failed
	:: else -> skip
	fi;
end_lost:
	/* A recovery. What was asked for is asked for again; what arrived stays. */
	if
	:: in_met ->
		atomic {
			b = 0;
			asked[0] = false; asked[1] = false; hurried[0] = false; hurried[1] = false;
			if :: page[0] == PRESENT -> b = b | 1 :: else -> skip fi;
			if :: page[1] == PRESENT -> b = b | 2 :: else -> skip fi;
			SEND(main_in, RECEIVED, b, 0)
		}
		do
		:: main_out?GO(_, _) ->
			if
			:: had_go -> in_phase = FOLLOWING; goto following
			:: else -> goto running
			fi
		:: !up -> in_met = false; goto end_lost
		od
	fi;
failed:
	in_phase = FAILED;
	assert(!in_runs && !committed);
end_done:
	skip
}

/* The guest, where it runs. What it reads is looked at when a page comes to be present, and before it
 * writes there. */
#define CAN_TOUCH(p) ((page[p] == PRESENT && writes <= WRITES) || (page[p] != PRESENT && !wanted[p]))

active proctype Guest()
{
	byte p;

end_guest:
	do
	:: atomic { out_runs && !in_runs && writes < WRITES ->
		if :: p = 0 :: p = 1 fi;
		version[p]++; dirty = dirty | BIT(p); writes++ }
	:: atomic { in_runs && (CAN_TOUCH(0) || CAN_TOUCH(1)) ->
		assert(!out_runs);
		if :: CAN_TOUCH(0) -> p = 0 :: CAN_TOUCH(1) -> p = 1 fi;
		if
		:: page[p] == PRESENT && writes <= WRITES ->
			assert(out_runs || have[p] == version[p]);
			version[p]++; have[p] = version[p]; writes++
		:: page[p] != PRESENT && !wanted[p] -> wanted[p] = true
		fi }
	od
}

/* The network goes, and comes back when both have noticed and someone asks for a recovery. */
active proctype Network()
{
end_network:
	do
	:: atomic { up && losses < LOSSES && out_phase != DONE && in_phase != DONE -> up = false; losses++ }
	:: atomic { !up && !out_met && !in_met && out_phase == LOST && in_phase == LOST ->
		drop_all(); up = true; out_met = true; in_met = true }
	od
}

#ifdef CANCELS
active proctype User()
{
	cancel = true
}
#endif
