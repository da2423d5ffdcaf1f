/*
 * Trains the sentiment network on the movie reviews from nothing, as train.rs does in Rust: six epochs, then the share
 * of the test sentences it is right about. train.rs says what is and what is not as in data/train_keras.py.
 *
 *     train          seed 0
 *     train 1        another seed
 */
#define _POSIX_C_SOURCE 200809L

#include <time.h>

#include "elman.h"
#include "reviews.h"

enum { VOCABULARY = 5000, BATCH = 128, EPOCHS = 6 };

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK)
        fail(elman_status_name(status), elman_last_error());
}

static elman_sequential *make_network(uint64_t seed)
{
    elman_sequential *network;
    elman_simple_rnn_config rnn;
    check(elman_simple_rnn_config_init(&rnn, sizeof rnn, 64));
    rnn.dropout = 0.5f;
    check(elman_sequential_new(1, &network));
    check(elman_sequential_add_embedding(network, VOCABULARY, 100, true));
    rnn.return_sequences = 1;
    check(elman_sequential_add_simple_rnn(network, &rnn));
    rnn.return_sequences = 0;
    check(elman_sequential_add_simple_rnn(network, &rnn));
    check(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
    check(elman_sequential_build(network, seed));
    return network;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double accuracy(const elman_sequential *network, const rows *test)
{
    float *scores = resize(NULL, test->count, sizeof *scores);
    size_t right = 0;
    check(elman_sequential_predict_tokens(network, test->ids, test->count * STEPS, test->count, STEPS, scores,
                                          test->count));
    for (size_t i = 0; i < test->count; i++)
        right += (scores[i] > 0.5f) == (test->labels[i] > 0.5f);
    free(scores);
    return (double)right / (double)test->count;
}

/* One epoch in a new order; the mean loss of its steps. */
static double epoch(elman_trainer *trainer, const rows *training, size_t *order, uint64_t *random)
{
    static int32_t ids[BATCH * STEPS];
    static float labels[BATCH];
    double total = 0.0;

    for (size_t i = training->count - 1; i > 0; i--) {
        size_t other = (size_t)(next_random(random) % (i + 1)), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t first = 0; first < training->count; first += BATCH) {
        size_t batch = training->count - first < BATCH ? training->count - first : BATCH;
        float loss;
        for (size_t i = 0; i < batch; i++) {
            memcpy(ids + i * STEPS, training->ids + order[first + i] * STEPS, STEPS * sizeof *ids);
            labels[i] = training->labels[order[first + i]];
        }
        check(elman_trainer_step_tokens(trainer, ids, batch * STEPS, batch, STEPS, labels, batch, NULL, &loss));
        total += (double)loss * (double)batch;
    }
    return total / (double)training->count;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0, random = seed;
    rows training = {NULL, NULL, 0, 0}, test = {NULL, NULL, 0, 0};
    vocabulary words = load_vocabulary();
    elman_trainer_config config;
    elman_sequential *network;
    elman_trainer *trainer;
    double start = seconds(), right = 0.0;
    size_t *order;

    read_reviews(&words, &training, &test);
    free_vocabulary(&words);
    printf("%zu rows to train on, %zu to test\n", training.count, test.count);
    order = resize(NULL, training.count, sizeof *order);
    for (size_t i = 0; i < training.count; i++)
        order[i] = i;
    network = make_network(seed);
    check(elman_trainer_config_init(&config, sizeof config));
    config.loss = ELMAN_LOSS_BINARY_CROSSENTROPY;
    config.seed = seed;
    config.learning_rate = 0.001f;
    config.schedule = ELMAN_SCHEDULE_COSINE;
    config.decay_steps = EPOCHS * ((training.count + BATCH - 1) / BATCH);
    check(elman_trainer_new(network, &config, &trainer));
    for (int i = 1; i <= EPOCHS; i++) {
        double loss = epoch(trainer, &training, order, &random);
        right = accuracy(network, &test);
        printf("epoch %d: loss %.4f, test accuracy %.4f\n", i, loss, right);
    }
    printf("seconds: %.2f\n", seconds() - start);
    printf("test accuracy: %.4f\n", right);

    elman_trainer_free(trainer);
    elman_sequential_free(network);
    free(order);
    free_rows(&training);
    free_rows(&test);
    return EXIT_SUCCESS;
}
