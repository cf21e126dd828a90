/*
 * child.c: a program that the worker runs beside its work: started without a shell, read from without waiting.
 *
 * What the child gets: the words, the server's environment and directory (the data directory, as archive_command),
 * /dev/null as stdin, pipes as stdout and stderr. What it does not get: our sockets, files and locks (all other
 * descriptors are closed), our signal handlers, our signal mask. It has a process group of its own, and all of that
 * is killed when its time is over, when it floods us, when it has exited and left others behind, and when the
 * worker ends. It dies with the worker even if that is killed (Linux), for nobody else would look after it.
 *
 * Between fork and exec only what is async-signal-safe is called: a resolver's thread may hold any lock of libc at the
 * moment of the fork (resolve.c). All signals are blocked until the handlers are the default ones, so that none of
 * ours runs in the child and touches shared memory.
 *
 * Orphans. A process that the child began and left behind is handed to the nearest ancestor that takes in orphans, else
 * to process 1, which in a container is often the postmaster. To that a child that it does not know, ended by a
 * signal, is a crashed backend: it restarts the whole server. So the worker takes in orphans itself (Linux), and reaps
 * whatever is there. It has no other children.
 *
 * Waiting. Its end is told by SIGCHLD, whose handler sets the latch (as the postmaster's does), and what it writes by
 * the pipes, which the caller waits for (ca_child_pipes). The handler is there before the first fork, and the latch is reset
 * before the caller looks: an end between any two lines is seen in this round or ends the wait for the next. More than is
 * kept on stderr is not worth waking for: that pipe is left to ca_child_timeout then, or a flood would keep us busy.
 *
 * File descriptors are counted with AcquireExternalFD. Memory: the caller's struct. Nothing raises.
 */
#include "cache_aside.h"
#include "common/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"

#define MOST_WORDS 256
#define PIECES 16      /* of what it wrote, at once */
#define FLOOD_MS 10    /* between looks at a stderr that floods */
#define FAREWELL_MS 50 /* for the killed to go, when the worker ends */

extern char **environ;

static CaChild *present; /* to be killed when the worker ends */
static bool unreaped;
static uint32 changes; /* of the pipes there are */

static void
close_end(CaChild *child, int i)
{
	if (child->fds[i] < 0)
		return;
	close(child->fds[i]);
	child->fds[i] = -1;
	changes++;
	ReleaseExternalFD();
}

static void
close_ends(CaChild *child)
{
	for (int i = 0; i < 3; i++)
		close_end(child, i);
}

/* ---- in the child: nothing but what is async-signal-safe ---- */

static void
close_all_from(int first)
{
	struct rlimit limit;

#if defined(__linux__) && defined(SYS_close_range)
	if (syscall(SYS_close_range, (unsigned int) first, ~0U, 0) == 0)
		return;
#endif
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 65536)
		limit.rlim_cur = 65536;
	for (int fd = first; fd < (int) limit.rlim_cur; fd++)
		close(fd);
}

static void
reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* `ends`: theirs of the three pipes, all above 2. */
static void
become(char *const *argv, const int *ends, pid_t parent)
{
	int error;
	int in = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
#endif
	if (in < 0 || dup2(in, 0) < 0 || dup2(ends[0], 1) < 0 || dup2(ends[1], 2) < 0 ||
		dup2(ends[2], 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0)
		_exit(127);
	close_all_from(4);
	reset_signals();
	execvp(argv[0], argv);
	error = errno;
	(void) !write(3, &error, sizeof(error));
	_exit(127);
}

/* ---- in the worker ---- */

static void
end_with_worker(int code, Datum arg)
{
	if (present)
		ca_child_kill(present);
	for (int ms = 0; unreaped && ms < FAREWELL_MS; ms++)
	{
		ca_child_reap();
		if (unreaped)
			pg_usleep(1000);
	}
}

static void
note_end(SIGNAL_ARGS)
{
	int saved = errno;

	SetLatch(MyLatch);
	errno = saved;
}

static void
prepare_once(void)
{
	static bool prepared;

	if (prepared)
		return;
	prepared = true;
#if defined(__linux__) && defined(PR_SET_CHILD_SUBREAPER)
	prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
	pqsignal(SIGCHLD, note_end);
	before_shmem_exit(end_with_worker, (Datum) 0);
}

/* Above 4, so that moving them to 1 to 3 overwrites none. */
static bool
make_pipe(int *ours, int *theirs)
{
	int ends[2];
	int saved;

	if (!AcquireExternalFD())
		return false;
	if (pipe(ends) != 0)
	{
		saved = errno;
		ReleaseExternalFD();
		errno = saved;
		return false;
	}
	*ours = fcntl(ends[0], F_DUPFD_CLOEXEC, 5);
	*theirs = fcntl(ends[1], F_DUPFD_CLOEXEC, 5);
	saved = errno;
	close(ends[0]);
	close(ends[1]);
	if (*ours >= 0 && *theirs >= 0 && pg_set_noblock(*ours))
		return true;
	if (*ours >= 0)
		close(*ours);
	if (*theirs >= 0)
		close(*theirs);
	*ours = *theirs = -1;
	ReleaseExternalFD();
	errno = saved;
	return false;
}

static pid_t
fork_child(char *const *argv, const int *ends)
{
	sigset_t all;
	sigset_t before;
	pid_t parent = getpid();
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		become(argv, ends, parent);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

bool
ca_child_begin(CaChild *child, const char *words, int nwords)
{
	const char *argv[MOST_WORDS + 1];
	int theirs[3] = {-1, -1, -1};
	bool piped = true;
	int saved;

	prepare_once();
	memset(child, 0, offsetof(CaChild, out));
	for (int i = 0; i < 3; i++)
		child->fds[i] = -1;
	if (nwords > MOST_WORDS)
	{
		errno = E2BIG;
		return false;
	}
	for (int i = 0; i < nwords; i++, words += strlen(words) + 1)
		argv[i] = words;
	argv[nwords] = NULL;
	for (int i = 0; i < 3 && piped; i++)
		piped = make_pipe(&child->fds[i], &theirs[i]);
	changes++;
	child->pid = piped ? fork_child((char *const *) argv, theirs) : -1;
	saved = errno;
	for (int i = 0; i < 3; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	if (child->pid > 0)
	{
		setpgid(child->pid, child->pid); /* whoever is first */
		present = child;
		return true;
	}
	child->pid = 0;
	close_ends(child);
	errno = saved;
	return false;
}

/* What fits; the rest is thrown away, and `cut` says so. */
static void
take_output(CaChild *child, int i, char *to, Size room, Size *len, bool *cut)
{
	char rest[4096];

	for (int n = 0; n < PIECES && child->fds[i] >= 0; n++)
	{
		bool fits = *len < room;
		ssize_t got =
			read(child->fds[i], fits ? to + *len : rest, fits ? room - *len : sizeof(rest));

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
			close_end(child, i);
		if (got <= 0)
			break;
		if (fits)
			*len += got;
		else
			*cut = true;
	}
	explicit_bzero(rest, sizeof(rest));
}

/* It has ended, but is not reaped: its number, and that of its group, is nobody else's yet. */
static bool
has_ended(CaChild *child)
{
	siginfo_t info = {0};

	return waitid(P_PID, child->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

static void
let_go(CaChild *child)
{
	child->pid = 0;
	present = NULL;
	close_ends(child);
	unreaped = true;
	ca_child_reap();
}

void
ca_child_kill(CaChild *child)
{
	if (child->pid == 0)
		return;
	kill(-child->pid, SIGKILL);
	let_go(child);
}

static CaChildState
conclude(CaChild *child)
{
	bool unborn = read(child->fds[2], &child->error, sizeof(child->error)) == sizeof(child->error);

	kill(-child->pid, SIGKILL); /* whom it left behind */
	if (waitpid(child->pid, &child->status, WNOHANG) != child->pid)
		child->status = 255 << 8; /* nobody knows */
	let_go(child);
	return unborn ? CA_CHILD_UNBORN : CA_CHILD_EXITED;
}

void
ca_child_reap(void)
{
	pid_t pid;

	if (!unreaped || present != NULL) /* whose status is wanted */
		return;
	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		;
	unreaped = pid == 0;
}

CaChildState
ca_child_step(CaChild *child)
{
	bool ended = has_ended(child); /* first: what it wrote is in the pipe then */
	bool flooded = false;
	bool cut = child->err_cut;

	take_output(child, 0, child->out, sizeof(child->out), &child->out_len, &flooded);
	take_output(child, 1, child->err, CA_CHILD_ERR, &child->err_len, &child->err_cut);
	changes += child->err_cut != cut;
	if (flooded)
	{
		ca_child_kill(child);
		return CA_CHILD_FLOODED;
	}
	return ended ? conclude(child) : CA_CHILD_RUNNING;
}

void
ca_child_pipes(const CaChild *child, CaChildPipes *pipes)
{
	pipes->n = 0;
	pipes->generation = changes;
	if (child->pid == 0)
		return;
	if (child->fds[0] >= 0)
		pipes->fds[pipes->n++] = child->fds[0];
	if (child->fds[1] >= 0 && !child->err_cut)
		pipes->fds[pipes->n++] = child->fds[1];
}

long
ca_child_timeout(const CaChild *child)
{
	return child->pid != 0 && child->err_cut && child->fds[1] >= 0 ? FLOOD_MS : -1;
}
