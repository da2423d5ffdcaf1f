/*
 * Trains the sentiment network on several processes, of one machine or many, that share the rows of every batch (data
 * parallel): each computes the gradients of its rows, MPI_Allreduce adds them up, and all move their weights alike.
 *
 *     make -C ffi-examples mpi                        builds it with mpicc
 *     mpirun -n 2 build/distributed                   200 steps of 128 rows
 *     mpirun -n 2 build/distributed 400 model.ckpt    400 steps; from model.ckpt on, where a run was killed
 *
 * The number of processes changes no more than the order of a sum: in the first 60 steps the losses of one process and of
 * two agree to 1e-6. From there the rounding grows, as it does with any change of order: to 1.2e-5 in step 190.
 * There is no dropout here, whose masks depend on where a row stands in its call.
 */
#define _POSIX_C_SOURCE 200809L

#include <mpi.h>
#include <unistd.h>

#include "elman.h"
#include "reviews.h"

enum { VOCABULARY = 5000, UNITS = 64, BATCH = 128, SAVED_EVERY = 20 };

static void check(elman_status status)
{
    if (status == ELMAN_STATUS_OK)
        return;
    fprintf(stderr, "%s: %s\n", elman_status_name(status), elman_last_error());
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
}

/* The same weights in every process, from the same seed. */
static elman_sequential *make_network(void)
{
    elman_sequential *network;
    elman_simple_rnn_config config;
    check(elman_sequential_new(1, &network));
    check(elman_sequential_add_embedding(network, VOCABULARY, 100, true));
    check(elman_simple_rnn_config_init(&config, sizeof config, UNITS));
    config.return_sequences = true;
    check(elman_sequential_add_simple_rnn(network, &config));
    config.return_sequences = false;
    check(elman_sequential_add_simple_rnn(network, &config));
    check(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
    check(elman_sequential_build(network, 0));
    return network;
}

static elman_trainer *make_trainer(elman_sequential *network)
{
    elman_trainer *trainer;
    elman_trainer_config config;
    check(elman_trainer_config_init(&config, sizeof config));
    config.loss = ELMAN_LOSS_BINARY_CROSSENTROPY;
    config.learning_rate = 0.001f;
    /* Clipped after they are added up: the norm of the whole batch, in every process. */
    config.clipping = ELMAN_CLIPPING_GLOBAL_NORM;
    config.clip_limit = 1.0f;
    check(elman_trainer_new(network, &config, &trainer));
    return trainer;
}

/* What a step computes: gradients of every weight, and behind them the loss, so that one call adds up both. */
typedef struct {
    float *values;
    size_t parameters;
} sums;

/* This process's part of the batch of a step. The rows of a step follow from its number, so a run that was killed goes
 * on with those that it would have had. */
static void share_of_batch(elman_trainer *trainer, const rows *data, uint64_t step, int rank, int ranks, sums *into)
{
    static int32_t ids[BATCH * STEPS];
    static float labels[BATCH];
    size_t first = (size_t)BATCH * (size_t)rank / (size_t)ranks;
    size_t count = (size_t)BATCH * ((size_t)rank + 1) / (size_t)ranks - first;
    float *loss = into->values + into->parameters;
    memset(into->values, 0, (into->parameters + 1) * sizeof *into->values);
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        /* A prime, so that neighbours in a batch are far apart in the file. */
        size_t row = (size_t)((step * BATCH + first + i) * 7919 % data->count);
        memcpy(ids + i * STEPS, data->ids + row * STEPS, STEPS * sizeof *ids);
        labels[i] = data->labels[row];
    }
    check(elman_trainer_backward_tokens(trainer, ids, count * STEPS, count, STEPS, labels, count, NULL, into->values,
                                        into->parameters, loss));
    /* They are means over this process's rows; the batch's mean counts each row alike. */
    for (size_t i = 0; i <= into->parameters; i++)
        into->values[i] *= (float)count / BATCH;
}

/* FNV-1a of the weights' bits: equal in all processes, and after a resumed run what it is after one that was not
 * killed. */
static uint64_t digest(const elman_sequential *network, size_t parameters)
{
    float *values = resize(NULL, parameters, sizeof *values);
    uint64_t hash = 14695981039346656037u;
    check(elman_sequential_get_parameters(network, values, parameters));
    for (size_t i = 0; i < parameters * sizeof *values; i++)
        hash = (hash ^ ((const unsigned char *)values)[i]) * 1099511628211u;
    free(values);
    return hash;
}

int main(int argc, char **argv)
{
    int rank, ranks;
    uint64_t steps, step, mine, least, most;
    const char *checkpoint;
    rows training = {NULL, NULL, 0, 0}, test = {NULL, NULL, 0, 0};
    vocabulary words;
    elman_sequential *network;
    elman_trainer *trainer;
    sums all;
    double start;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 200;
    checkpoint = argc > 2 ? argv[2] : NULL;

    words = load_vocabulary();
    read_reviews(&words, &training, &test);
    free_vocabulary(&words);
    network = make_network();
    if (checkpoint != NULL && access(checkpoint, F_OK) == 0)
        check(elman_trainer_load(network, checkpoint, &trainer));
    else
        trainer = make_trainer(network);
    check(elman_trainer_steps(trainer, &step));
    if (rank == 0)
        printf("%d processes, steps %llu to %llu\n", ranks, (unsigned long long)step, (unsigned long long)steps);
    /* Nobody writes the checkpoint before all have read it. */
    MPI_Barrier(MPI_COMM_WORLD);

    check(elman_sequential_parameter_count(network, &all.parameters));
    all.values = resize(NULL, all.parameters + 1, sizeof *all.values);
    start = MPI_Wtime();
    for (; step < steps; step++) {
        share_of_batch(trainer, &training, step, rank, ranks, &all);
        MPI_Allreduce(MPI_IN_PLACE, all.values, (int)(all.parameters + 1), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        check(elman_trainer_apply(trainer, all.values, all.parameters));
        if (rank == 0 && step % 10 == 0) {
            printf("step %llu: loss %.9f\n", (unsigned long long)step, (double)all.values[all.parameters]);
            fflush(stdout);
        }
        /* The file is replaced in one move: a run that is killed here leaves the one before. */
        if (rank == 0 && checkpoint != NULL && (step + 1) % SAVED_EVERY == 0)
            check(elman_trainer_save(trainer, checkpoint));
    }
    if (rank == 0)
        printf("seconds: %.3f\n", MPI_Wtime() - start);

    mine = digest(network, all.parameters);
    MPI_Allreduce(&mine, &least, 1, MPI_UINT64_T, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(&mine, &most, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (least != most) {
        fprintf(stderr, "process %d: the weights are not those of the others\n", rank);
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    }
    if (rank == 0)
        printf("weights: %016llx\n", (unsigned long long)mine);

    free(all.values);
    elman_trainer_free(trainer);
    elman_sequential_free(network);
    free_rows(&training);
    free_rows(&test);
    MPI_Finalize();
    return EXIT_SUCCESS;
}
