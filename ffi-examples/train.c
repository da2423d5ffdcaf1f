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

static elman_examples examples(const rows *from)
{
    elman_examples made;
    check(elman_examples_init(&made, sizeof made));
    made.ids = from->ids;
    made.ids_len = from->count * STEPS;
    made.batch = from->count;
    made.steps = STEPS;
    made.target = from->labels;
    made.target_len = from->count;
    return made;
}

static bool print_epoch(void *accuracy, const elman_epoch_end *end)
{
    printf("epoch %zu: loss %.4f, test accuracy %.4f\n", end->epoch + 1, (double)end->loss,
           (double)end->validation_accuracy);
    *(float *)accuracy = end->validation_accuracy;
    return true;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    rows training = {NULL, NULL, 0, 0}, test = {NULL, NULL, 0, 0};
    vocabulary words = load_vocabulary();
    elman_trainer_config config;
    elman_fit_config fit;
    elman_examples learned, validation;
    elman_sequential *network;
    elman_trainer *trainer;
    float accuracy = 0.0f;
    double start;

    read_reviews(&words, &training, &test);
    free_vocabulary(&words);
    printf("%zu rows to train on, %zu to test\n", training.count, test.count);
    learned = examples(&training);
    validation = examples(&test);
    network = make_network(seed);
    check(elman_trainer_config_init(&config, sizeof config));
    config.loss = ELMAN_LOSS_BINARY_CROSSENTROPY;
    config.seed = seed;
    config.learning_rate = 0.001f;
    config.schedule = ELMAN_SCHEDULE_COSINE;
    config.decay_steps = EPOCHS * ((training.count + BATCH - 1) / BATCH);
    check(elman_trainer_new(network, &config, &trainer));
    check(elman_fit_config_init(&fit, sizeof fit));
    fit.epochs = EPOCHS;
    fit.batch_size = BATCH;
    fit.validation = &validation;
    fit.on_epoch = print_epoch;
    fit.user = &accuracy;
    start = seconds();
    check(elman_trainer_fit(trainer, &learned, &fit, NULL));
    printf("seconds: %.2f\n", seconds() - start);
    printf("test accuracy: %.4f\n", (double)accuracy);

    elman_trainer_free(trainer);
    elman_sequential_free(network);
    free_rows(&training);
    free_rows(&test);
    return EXIT_SUCCESS;
}
